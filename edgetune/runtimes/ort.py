"""ONNX models of the onnxruntime-genai builder, run by plain ONNX Runtime.

The graph takes ids, an attention mask and the past keys and values, and returns logits and the
present ones. The session is driven directly: one dependency less, and every position's logits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from edgetune.errors import EdgetuneError, InputError, Unsupported, reading
from edgetune.models.chat_template import fold_templates
from edgetune.runtimes import GENAI_CONFIG, count_together, greedy
from edgetune.runtimes.genai_folder import find_graph, read_decoder
from edgetune.runtimes.gpu import PROVIDER, REMEDIES, find_gpu_fault
from edgetune.runtimes.template import render_template
from edgetune.runtimes.text import TextGeneration

SEQUENCES = 64  # decoded together, at most; all of one prompt length
_LARGE_VOCABULARY = 2**18  # taken for one that the graph does not state
_NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxRuntime(TextGeneration):
    """A folder with ``genai_config.json``; see :class:`edgetune.runtimes.Runtime`.

    With ``adapter``, an ``.onnx_adapter`` file made for its graph, the update is added.
    """

    name = "onnxruntime"

    def __init__(
        self, folder: Path, threads: int, device: str = "cpu", adapter: Path | None = None
    ) -> None:
        self.folder, self.threads, self.device = folder, threads, device
        decoder, graph = read_decoder(folder), find_graph(folder)
        self._tokenizer = _load_tokenizer(folder / "tokenizer.json")
        self._session: Any = _open_session(graph, threads, device)
        self._past = _empty_past(self._session, decoder, folder)
        sizes = [node.shape[-1] for node in self._session.get_outputs() if node.name == "logits"]
        self._vocabulary = sizes[0] if sizes and isinstance(sizes[0], int) else _LARGE_VOCABULARY
        inputs = {node.name for node in self._session.get_inputs()}
        self._wants_positions = "position_ids" in inputs
        self._adapter = _load_adapter(adapter) if adapter is not None else None
        self._options = onnxruntime.RunOptions()
        if self._adapter is not None:
            self._options.add_active_adapter(self._adapter)

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def tokenize_prompt(self, text: str) -> list[int]:
        """Return the ids of a whole prompt, with the special tokens that its tokenizer adds."""
        return list(self._tokenizer.encode(text, add_special_tokens=True).ids)

    def detokenize(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def render(self, messages: list[dict[str, str]], clock: str | None = None) -> str:
        config = _read_json(self.folder / "tokenizer_config.json")
        special = {
            name: value["content"] if isinstance(value, dict) else value
            for name in ("bos_token", "eos_token", "unk_token", "pad_token")
            if (value := config.get(name))
        }
        file = self.folder / "chat_template.jinja"
        source = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
        source = fold_templates(source, str(self.folder))
        return render_template(source, messages, special, str(self.folder), clock=clock)

    def stop_ids(self) -> list[int]:
        found = _read_json(self.folder / GENAI_CONFIG).get("model", {}).get("eos_token_id")
        if found is None:
            return []
        return [int(one) for one in found] if isinstance(found, list) else [int(found)]

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        logits_BTV, _ = self._run(np.array([list(ids)], np.int64), self._past_of(1), 0)
        scores: np.ndarray = logits_BTV[0].astype(np.float32, copy=False)
        return scores

    def logits_after(
        self, context: Sequence[int], branches: Sequence[Sequence[int]]
    ) -> Iterator[np.ndarray]:
        """Yield logits after a context and after each token of its branches, the context computed
        once; see :func:`edgetune.runtimes.likelihood.logits_after`."""
        past = self._past_of(1)
        for block_PV, present in self._feed_blocks(context, past, 0):
            logits_PV, past = block_PV[-1:], present
        yield logits_PV
        for branch in branches:
            for logits_PV, _ in self._feed_blocks(branch, past, len(context)):
                yield logits_PV

    def _feed_blocks(
        self, ids: Sequence[int], past: dict[str, Any], seen: int
    ) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Feed tokens after ``seen`` earlier ones, so many at a time that logits stay few; yield
        the logits of each block, float32 ``[P, V]``, and the past with it."""
        step = count_together(self._vocabulary)
        for first in range(0, len(ids), step):
            block_BT = np.array([list(ids[first : first + step])], np.int64)
            logits_BTV, past = self._run(block_BT, past, seen + first)
            yield logits_BTV[0].astype(np.float32, copy=False), past

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int]
    ) -> list[list[int]]:
        groups = greedy.equal_length_groups(prompts, SEQUENCES)
        return greedy.generate(self._start, prompts, groups, max_new_tokens, stop_ids)

    def stream(self, prompt: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        return greedy.stream(self._start, prompt, max_new_tokens)

    def close(self) -> None:
        """Drop the session; its memory goes with it."""
        self._session = None

    def _start(self, prompts: greedy.Prompts) -> _Sequences:
        return _Sequences(self, np.array([list(prompt) for prompt in prompts], np.int64))

    def _past_of(self, batch: int) -> dict[str, Any]:
        """Return empty past keys and values for ``batch`` sequences."""
        return {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.empty((batch, *shape), dtype))
            for name, (shape, dtype) in self._past.items()
        }

    def _run(
        self, ids_BT: np.ndarray, past: dict[str, Any], seen: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Feed tokens after ``seen`` earlier ones; return logits [B, T, V] and the new past."""
        if self._session is None:
            raise EdgetuneError("this runtime is closed", where=str(self.folder))
        batch, count = ids_BT.shape
        wrap = onnxruntime.OrtValue.ortvalue_from_numpy
        feeds = {"input_ids": wrap(ids_BT), **past}
        feeds["attention_mask"] = wrap(np.ones((batch, seen + count), np.int64))
        if self._wants_positions:
            positions = np.arange(seen, seen + count, dtype=np.int64)
            feeds["position_ids"] = wrap(np.tile(positions, (batch, 1)))
        outputs = ["logits", *(name.replace("past_key_values", "present") for name in past)]
        try:
            logits, *present = self._session.run_with_ort_values(outputs, feeds, self._options)
        except Exception as error:  # ONNX Runtime's exceptions share no base but this
            raise EdgetuneError(f"ONNX Runtime fails: {error}", where=str(self.folder)) from error
        return logits.numpy(), dict(zip(past, present, strict=True))


class _Sequences:
    """Prompts of one length, continued together: a :class:`edgetune.runtimes.greedy.Decoder`."""

    def __init__(self, runtime: OnnxRuntime, prompts_BT: np.ndarray) -> None:
        self._runtime = runtime
        self._seen = 0
        self._past = runtime._past_of(len(prompts_BT))
        self._feed(prompts_BT)

    def advance(self, keep: list[int]) -> None:
        if len(keep) < len(self.tokens):
            wrap = onnxruntime.OrtValue.ortvalue_from_numpy
            self._past = {name: wrap(old.numpy()[keep]) for name, old in self._past.items()}
        self._feed(np.array([[self.tokens[slot]] for slot in keep], np.int64))

    def _feed(self, ids_BT: np.ndarray) -> None:
        logits_BTV, self._past = self._runtime._run(ids_BT, self._past, self._seen)
        self._seen += ids_BT.shape[1]
        self.tokens: list[int] = logits_BTV[:, -1].argmax(axis=1).tolist()


def _open_session(model: Path, threads: int, device: str) -> Any:
    provider = {"cpu": "CPUExecutionProvider", "cuda": PROVIDER}[device]
    if device == "cuda" and (fault := find_gpu_fault("onnx")):
        raise Unsupported(fault, where=str(model), hint=f"{REMEDIES['onnx']}, or use the CPU")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # only what is fatal; errors arrive as exceptions
    if not model.is_file():
        raise InputError("no such ONNX model", where=str(model))
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=[provider])
    except Exception as error:  # ONNX Runtime's exceptions share no base but this
        raise InputError(
            f"ONNX Runtime cannot load this model: {error}", where=str(model)
        ) from error
    if provider not in session.get_providers():  # it runs on the CPU then, and does not say so
        raise Unsupported(
            f"ONNX Runtime does not start its {provider}",
            where=str(model),
            hint="the CUDA and cuDNN libraries that it was built for have to be installed",
        )
    return session


def _load_adapter(path: Path) -> Any:
    adapter = onnxruntime.LoraAdapter()
    try:
        adapter.Load(str(path))
    except Exception as error:  # ONNX Runtime's exceptions share no base but this
        raise InputError(
            f"ONNX Runtime cannot load this adapter: {error}", where=str(path)
        ) from error
    return adapter


def _empty_past(
    session: Any, decoder: dict[str, Any], folder: Path
) -> dict[str, tuple[tuple[int, int, int], Any]]:
    """Return shape without the batch (heads, 0 tokens, head size) and type of each past input."""
    inputs = [node for node in session.get_inputs() if node.name.startswith("past_key_values.")]
    if not inputs or not {"num_key_value_heads", "head_size"} <= set(decoder):
        raise InputError(
            "not a decoder graph with a KV cache",
            where=str(folder),
            hint="export it with `edgetune export` or the onnxruntime-genai builder",
        )
    shape = (int(decoder["num_key_value_heads"]), 0, int(decoder["head_size"]))
    return {node.name: (shape, _NUMPY_TYPES.get(node.type, np.float32)) for node in inputs}


def _load_tokenizer(path: Path) -> Tokenizer:
    with reading("cannot load the tokenizer", str(path)):
        return Tokenizer.from_file(str(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"not readable as JSON: {error}", where=str(path)) from error
    if not isinstance(value, dict):
        raise InputError("not a JSON object", where=str(path))
    return value
