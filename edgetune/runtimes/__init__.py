"""The programs that run a model, with one Protocol: torch, llama.cpp, ONNX Runtime.

Each lives in a file of its own that is imported when a model of its kind is opened, so a process
that measures a GGUF file holds no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgetune.errors import InputError
from edgetune.models.hardware import count_threads
from edgetune.models.ref import ModelRef

if TYPE_CHECKING:
    import numpy as np

CHUNK_SCORES = 2**21  # logits turned to float64 at a time: 16 MB
GENAI_CONFIG = "genai_config.json"  # what makes a folder an ONNX model of the genai builder


class Runtime(Protocol):
    """A loaded model that answers. Token ids are plain ints, in the model's own vocabulary.

    Attributes:
        name: ``torch``, ``llama.cpp`` or ``onnxruntime``.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads it computes with.
    """

    name: str
    device: str
    threads: int

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of ``text``, special tokens in it recognised, none added around it."""

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, without special tokens."""

    def render(self, messages: list[dict[str, str]], clock: str | None = None) -> str:
        """Return the prompt text of a chat by the template the file carries, ready to answer.

        Args:
            messages: ``{"role", "content"}`` each.
            clock: the time that the template prints, if it prints one (ISO 8601); ``None`` is now.

        Raises:
            InputError: the file carries no chat template, or the template refuses the messages.
        """

    def stop_ids(self) -> list[int]:
        """Return the ids at which a client of this file ends an answer; empty if it names none."""

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Return float32 ``[T, V]``: row t scores the token after ``ids[: t + 1]``."""

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int]
    ) -> list[list[int]]:
        """Return each prompt's greedy continuation, without the prompt and without the stop id."""

    def generate_text(self, prompt: str | list[dict[str, str]], max_new_tokens: int = 256) -> str:
        """Return the greedy answer to a conversation or a finished prompt; see
        :meth:`edgetune.runtimes.text.TextGeneration.generate_text`."""

    def stream(self, prompt: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        """Yield exactly ``max_new_tokens`` greedy tokens as they come; stop ids do not stop it."""

    def close(self) -> None:
        """Free the model. A second call does nothing."""


def open_runtime(
    path_or_ref: Path | ModelRef, threads: int | None = None, device: str = "cpu"
) -> Runtime:
    """Load a model in the runtime that runs its kind.

    Args:
        path_or_ref: a ``.gguf`` file (llama.cpp), a folder with ``genai_config.json``
            (ONNX Runtime), a Hugging Face folder or a :class:`ModelRef` (torch).
        threads: CPU threads; absent: the cores this process may use.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: nothing there, of no known kind, or broken.
    """
    return find_opener(path_or_ref)(threads or count_threads(), device)


def open_merged(folder: Path, threads: int) -> Runtime:
    """Load a Hugging Face folder for a few passes; see :func:`open_trained`."""
    return open_trained(ModelRef(folder), threads)


def open_trained(ref: ModelRef, threads: int) -> Runtime:
    """Load base + adapter for a few passes: in torch, offloaded to disk if the base is large."""
    from edgetune.models.offload import open_trained_offloaded
    from edgetune.runtimes.pytorch import Streamed, Torch

    model = open_trained_offloaded(ref)
    return Torch(ref, threads) if model is None else Streamed(ref.base, model, threads)


def open_exact_merge(
    base: Path, adapters: Sequence[Path], nf4_dtype: str | None, threads: int
) -> Runtime | None:
    """Return the merge of adapters in float32, read from their base's files as it computes.

    Nothing where the base is small enough, or shaped so, that the merge has to be written first;
    see :func:`edgetune.models.offload.open_merge_offloaded`.
    """
    from edgetune.models.offload import open_merge_offloaded
    from edgetune.runtimes.pytorch import Streamed

    model = open_merge_offloaded(base, adapters, nf4_dtype)
    return None if model is None else Streamed(base, model, threads)


def open_for_check(path: Path, threads: int) -> Runtime:
    """Load a file that was just written, in the least memory its runtime can do with."""
    if path.suffix != ".gguf":
        return open_runtime(path, threads)
    from edgetune.runtimes.llamacpp import LlamaCpp

    return LlamaCpp(path, threads, mapped=False)


def logits_of(runtime: Runtime, sequences: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """Yield the logits of each sequence, as :meth:`Runtime.logits` gives them.

    A model whose weights are read from disk for every pass computes many in one.
    """
    together = getattr(runtime, "logits_of", None)
    yield from together(sequences) if together else map(runtime.logits, sequences)


def logits_at(
    runtime: Runtime, sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]]
) -> Iterator[np.ndarray]:
    """Yield float32 ``[P, V]``: logits at some positions of each sequence, in order.

    Those of a sequence come in blocks of :func:`count_together` positions, so that models of one
    vocabulary are compared in lockstep.
    """
    in_blocks = getattr(runtime, "logits_at", None)
    if in_blocks:
        yield from in_blocks(sequences, positions)
        return
    for ids, places in zip(sequences, positions, strict=True):
        logits_PV = runtime.logits(ids)[list(places)]
        step = count_together(logits_PV.shape[1])
        yield from (logits_PV[first : first + step] for first in range(0, len(places), step))


def count_together(vocabulary: int) -> int:
    """Return of how many positions logits are held at a time: about 2**24 of them, 64 MB."""
    return 8 * max(1, CHUNK_SCORES // vocabulary)


def find_opener(path_or_ref: Path | ModelRef) -> Callable[..., Runtime]:
    """Import the runtime of a model; what is returned loads it, given threads and device.

    Apart, so that a load can be timed without the imports before it.

    Raises:
        InputError: nothing there, or of no known kind.
    """
    if isinstance(path_or_ref, ModelRef):
        from edgetune.runtimes.pytorch import Torch

        return partial(Torch, path_or_ref)
    path = path_or_ref
    if path.is_file() and path.suffix == ".gguf":
        from edgetune.runtimes.llamacpp import LlamaCpp

        return partial(LlamaCpp, path)
    if (path / GENAI_CONFIG).is_file():
        from edgetune.runtimes.ort import OnnxRuntime

        return partial(OnnxRuntime, path)
    if (path / "config.json").is_file():
        return find_opener(ModelRef(path))
    raise InputError(
        "not a model that edgetune can run" if path.exists() else "no such model",
        where=str(path),
        hint=f"give a .gguf file, a folder with {GENAI_CONFIG}, or a Hugging Face folder",
    )
