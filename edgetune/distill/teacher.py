"""Teachers: a model in torch, or any file through its runtime, that gives distributions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from edgetune.artifact import Artifact, hash_source
from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Row
from edgetune.errors import InputError, Unsupported
from edgetune.models.adapters import fold_float32
from edgetune.models.head import head_only_at
from edgetune.models.lineage import fingerprint_adapter, lineage_of
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.models.resolve import resolve_model
from edgetune.recipe import DistillSection
from edgetune.runtimes import Runtime, open_runtime

BATCH_TOKENS = 4096  # of a forward pass in torch
CHECKED_ROWS = 32  # prompts on which a file's tokenizer is compared with the student's


@dataclass(frozen=True)
class TeacherRef:
    """A teacher's model or file, and the folder of its tokenizer and template."""

    target: ModelRef | Path
    contract: Path


class Teacher(Protocol):
    """Gives logits where a row is trained.

    Attributes:
        vocabulary: tokens it knows.
    """

    vocabulary: int

    def score(self, rows: Sequence[Encoded]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (row number, float32 logits [N, V] that predict its N trained tokens)."""


class TorchTeacher:
    """A model in eval mode; rows of equal length share a forward pass, so nothing is padded.

    ``vocabulary`` cuts the logits to those that the student has too: heads of one tokenizer are
    padded to different sizes (151,936 and 152,064).
    """

    def __init__(self, model: Any, vocabulary: int | None = None) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        own = int(model.get_output_embeddings().weight.shape[0])
        self.vocabulary = min(own, vocabulary or own)

    @torch.no_grad()
    def score(self, rows: Sequence[Encoded]) -> Iterator[tuple[int, torch.Tensor]]:
        by_length: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            by_length.setdefault(len(row.ids), []).append(index)
        for length, members in sorted(by_length.items()):
            size = max(1, BATCH_TOKENS // length)
            for start in range(0, len(members), size):
                yield from self._score_equal([(i, rows[i]) for i in members[start : start + size]])

    def _score_equal(
        self, batch: Sequence[tuple[int, Encoded]]
    ) -> Iterator[tuple[int, torch.Tensor]]:
        ids_BT = torch.tensor([row.ids for _, row in batch], device=self._device)
        # The logits at t speak of the token at t + 1.
        asked_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        asked_BT[:, :-1] = torch.tensor([row.trained[1:] for _, row in batch], device=self._device)
        with head_only_at(self._model, asked_BT):
            logits_PV = self._model(input_ids=ids_BT, use_cache=False).logits
        counts = asked_BT.sum(dim=1).tolist()
        for (index, _), logits_NV in zip(batch, logits_PV.split(counts), strict=True):
            yield index, logits_NV[:, : self.vocabulary].float()


class RuntimeTeacher:
    """A GGUF file in llama.cpp, or an ONNX folder: the teacher as it is shipped."""

    def __init__(self, runtime: Runtime, vocabulary: int | None = None) -> None:
        self._runtime = runtime
        own = int(runtime.logits([0]).shape[1])
        self.vocabulary = min(own, vocabulary or own)

    def score(self, rows: Sequence[Encoded]) -> Iterator[tuple[int, torch.Tensor]]:
        for index, row in enumerate(rows):
            at = np.flatnonzero(row.trained[1:])
            if not len(at):
                yield index, torch.empty(0, self.vocabulary)
                continue
            logits_TV = self._runtime.logits(row.ids[: int(at[-1]) + 1])
            yield index, torch.from_numpy(logits_TV[at, : self.vocabulary])


class OpenTeacher:
    """A loaded teacher: its scores, its answers, and the torch model where it is one."""

    def __init__(
        self, scores: TorchTeacher | RuntimeTeacher, model: Any, runtime: Runtime | None,
        dtype: str, device: str,
    ) -> None:  # fmt: skip
        self.scores, self.dtype, self.device = scores, dtype, device
        self.model: Any = model
        self.runtime = runtime

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int]
    ) -> list[list[int]]:
        """Return greedy answers, without the stop id."""
        if self.runtime is not None:
            return self.runtime.generate(prompts, max_new_tokens, stop_ids)
        from edgetune.runtimes.pytorch import generate

        return generate(self.model, prompts, max_new_tokens, stop_ids)

    def close(self) -> None:
        """Let go of it; its memory goes with it."""
        if self.runtime is not None:
            self.runtime.close()
        self.model = self.runtime = None
        del self.scores


def find_teacher(section: DistillSection, tuned: Artifact | None) -> TeacherRef:
    if section.teacher is None:
        assert tuned is not None, "the pipeline asks for a tune stage"
        target = ModelRef.from_json(tuned.facts["model"], tuned.path)
        return TeacherRef(target, tuned.contract_folder)
    if section.teacher.endswith(".gguf"):
        if section.student.path is None:
            raise InputError(
                "a GGUF file cannot be cut into a student",
                where="distill.student.path",
                hint="name the model that is to learn from it",
            )
        return TeacherRef(Path(section.teacher), resolve_model(section.student.path))
    folder = resolve_model(section.teacher)
    return TeacherRef(ModelRef(folder), folder)


def open_teacher(target: ModelRef | Path, dtype: str, device: str) -> OpenTeacher:
    """Load a teacher: a model with or without an adapter in torch, a file in its runtime."""
    if isinstance(target, Path):
        try:
            runtime = open_runtime(target, device=device)
        except Unsupported:  # a build without CUDA: the CPU says the same, more slowly
            runtime = open_runtime(target)
        return OpenTeacher(RuntimeTeacher(runtime), None, runtime, "file", device)
    model = fold_float32(load_model(target, dtype, device))
    return OpenTeacher(TorchTeacher(model), model, None, dtype, device)


def check_ids(
    teacher: OpenTeacher, encoder: Encoder, rows: Sequence[Row], where: ModelRef | Path
) -> None:
    """Refuse a teacher's file whose tokens are not those of the student's tokenizer.

    Raises:
        InputError: a prompt has other ids.
    """
    if teacher.runtime is None:
        return
    for row in rows[:CHECKED_ROWS]:
        text = row.text if row.text is not None else encoder.prompt_text(row)
        wanted = list(encoder.tokenizer(text, add_special_tokens=False).input_ids)
        found = teacher.runtime.tokenize(text)
        if wanted != found:
            raise InputError(
                f"this file gives other ids than the student's tokenizer: {found[:12]} against "
                f"{wanted[:12]} for {text[:40]!r}",
                where=str(where),
                hint="choose a student of the same tokenizer; `edgetune verify` shows differences",
            )


def identify(teacher: ModelRef | Path, dtype: str) -> str:
    """Return a hash of the teacher's weights and of how they are computed with.

    That is also what the configurations say: an adapter's scale, a model's rotary base.
    """
    if isinstance(teacher, Path):
        return hash_source(teacher)[:32]
    parts = [lineage_of(teacher.base), dtype, str(teacher.nf4), teacher.nf4_dtype]
    parts.append(hash_source(teacher.base / "config.json"))
    if teacher.adapter is not None:
        parts.append(fingerprint_adapter(teacher.adapter))
        parts.append(hash_source(teacher.adapter / "adapter_config.json"))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]
