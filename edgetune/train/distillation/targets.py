"""Distillation targets: the rows and the loss that a method trains the student with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.load import load_rows
from edgetune.data.rows import Row
from edgetune.data.sources import open_source
from edgetune.distill.cache import Cache
from edgetune.distill.losses import StudentLoss
from edgetune.distill.teacher import OpenTeacher, TeacherRef
from edgetune.distill.teacher_answers import with_answers, write_answers
from edgetune.facts import TargetFacts
from edgetune.log import Log
from edgetune.models.resolve import read_json
from edgetune.ops import Choice, choose
from edgetune.recipe import DistillSection, Sections
from edgetune.train.distillation.trainer import train_student
from edgetune.train.inputs import DistillationData, TrainingRun
from edgetune.train.loop import Outcome


class StudentTargets(Protocol):
    """What a method trains the student with.

    Attributes:
        facts: what is told of them.
    """

    @property
    def facts(self) -> TargetFacts: ...

    def train(
        self, student: Any, validation: Sequence[Encoded], section: DistillSection, run: TrainingRun
    ) -> Outcome:
        """Train the student, whose adapters are added or whose parameters are all trainable."""


@dataclass(frozen=True)
class LossTargets:
    """Rows that are known before the training, and the loss to minimise on them.

    Attributes:
        rows: to train on.
        loss: the objective of each of their trained tokens.
        pad_id: fills rows up to the longest of a batch.
        facts: what is told of them.
        cache: the teacher's distributions for exactly ``rows``, where the loss reads them.
    """

    rows: Sequence[Encoded]
    loss: StudentLoss
    pad_id: int
    facts: TargetFacts
    cache: Cache | None = None

    def train(
        self, student: Any, validation: Sequence[Encoded], section: DistillSection, run: TrainingRun
    ) -> Outcome:
        data = DistillationData(self.rows, validation, self.cache, self.pad_id)
        return train_student(student, self.loss, data, section, run)


@dataclass(frozen=True)
class Distillation:
    """A distillation before its training: what a method makes targets from.

    Attributes:
        sections: of the recipe.
        teacher_ref: where the teacher is.
        teacher: the same, loaded.
        encoder: the teacher's.
        student_encoder: the student's; another object only where its tokens differ.
        answered: rows with answers.
        encoded: ``answered`` as the teacher's tokens.
        prompts: rows whose answers the teacher writes.
        start: folder of the student's initial weights.
        out: the artifact's directory.
        log: bars and messages.
    """

    sections: Sections
    teacher_ref: TeacherRef
    teacher: OpenTeacher
    encoder: Encoder
    student_encoder: Encoder
    answered: Sequence[Row]
    encoded: Sequence[Encoded]
    prompts: Sequence[Row]
    start: Path
    out: Path
    log: Log

    @property
    def section(self) -> DistillSection:
        return self.sections.distill

    @property
    def pad_id(self) -> int:
        """The token that fills rows up to the longest of a batch."""
        return int(self.student_encoder.tokenizer.pad_token_id)

    @cached_property
    def vocabulary(self) -> int:
        """Tokens that teacher and student both have."""
        config = read_json(self.start / "config.json", "")
        return min(self.teacher.scores.vocabulary, int(config.get("vocab_size", 1 << 62)))

    def choose_loss(self, op: str) -> Choice:
        """Return the implementation of a loss of :mod:`edgetune.ops`, as the recipe asks for it."""
        return choose(op, self.section.kernels, self.teacher.device)

    def write_answers(self, rows: Sequence[Row]) -> list[list[int]]:
        """Return the teacher's greedy answers to the prompts of ``rows``, as its own ids."""
        path = self.out / "scratch" / "answers"
        longest = self.section.max_new_tokens
        return write_answers(self.teacher.generate, self.encoder, rows, longest, path, self.log)

    def encode_answers(self, rows: Sequence[Row]) -> tuple[list[Encoded], int]:
        """Return ``rows`` encoded with the teacher's answers, and how many answers there are."""
        answers = self.write_answers(rows) if rows else []
        return with_answers(self.encoder, rows, answers), len(answers)


def load_prompts(sections: Sections, log: Log) -> list[Row]:
    """Return the rows whose answers the teacher writes."""
    path = sections.distill.prompts
    if path is None:
        return []
    source = open_source(path, "prompts")
    loaded = load_rows(source, sections.data, log.muted(), "prompts", answered=False)
    return [row for row in loaded.rows if row.text is None]
