"""What a training is given beside its model: rows, and the run that it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from edgetune.data.encoded import Encoded
from edgetune.distill.cache import Cache
from edgetune.log import Log


@dataclass(frozen=True)
class TrainingData:
    """Encoded rows to train on, and rows to validate on, which may be none."""

    train: Sequence[Encoded]
    validation: Sequence[Encoded] = ()

    def take_validation(self, eval_rows: int | Literal["all"]) -> Sequence[Encoded]:
        """Return the rows of each validation: at most so many, evenly from all, always the same."""
        total = len(self.validation)
        if eval_rows == "all" or total <= eval_rows:
            return self.validation
        return [self.validation[number * total // eval_rows] for number in range(eval_rows)]


@dataclass(frozen=True)
class DistillationData(TrainingData):
    """Rows with what a batch of them needs.

    Attributes:
        cache: the teacher's targets of exactly the ``train`` rows, where the loss reads them.
        pad_id: fills rows up to the longest of a batch.
    """

    cache: Cache | None = None
    pad_id: int = 0


class Score(Protocol):
    """A figure of a model, the higher the better."""

    @property
    def name(self) -> str: ...

    def __call__(self, model: Any) -> float: ...


@dataclass(frozen=True)
class TrainingRun:
    """One training of a stage.

    Attributes:
        role: ``teacher``, ``student`` … : names its checkpoints and its curve.
        seed: of shuffling, dropout and sampling.
        out: the artifact's directory; curves go to its ``metrics.jsonl``.
        log: bar and events.
        logged: figures of the trainer's log that are kept beside the losses.
        score: of a model, by which ``patience`` keeps the best weights instead of by their loss.
    """

    role: str
    seed: int
    out: Path
    log: Log
    logged: tuple[str, ...] = ()
    score: Score | None = None

    @property
    def best_by(self) -> str | None:
        """Name of the score that the best weights have most of; none for the lowest loss."""
        return self.score.name if self.score else None

    @property
    def checkpoints(self) -> Path:
        """Folder that an interrupted training is resumed from."""
        return self.out / "scratch" / self.role
