"""What synthesize did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgetune.facts.training import TuneFacts


@dataclass(frozen=True)
class SynthesizeFacts:
    """The rows that a teacher wrote, and what became of them.

    Attributes:
        task: what it was asked to write.
        teacher: its name and hash, or the endpoint's address and model.
        seeds: rows that it was asked about.
        seeds_from: ``rows`` or ``failures``.
        failures: validation rows that the model named by ``failures_of`` answers wrongly.
        validation_rows: how many it was asked.
        asked: rows that were asked for.
        accepted: rows that every validator accepted.
        rejected: how many of the others by validator or fault.
        template: version of the text that the teacher was sent; ``own`` for the task's.
        calls: requests to the teacher, those of validators included.
        prompt_tokens: read by it.
        generated_tokens: written by it.
        seconds: that the batches took.
        cost: in the currency of ``price_per_million_tokens``.
        ended_early: why fewer rows were asked for than planned.
        confidential: whether a source of the seeds is; what was written about them is, too.
    """

    task: str = ""
    teacher: dict[str, str] = field(default_factory=dict)
    seeds: int = 0
    seeds_from: str = "rows"
    failures: int | None = None
    validation_rows: int | None = None
    asked: int = 0
    accepted: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    template: str = "own"
    calls: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0
    cost: float | None = None
    ended_early: str | None = None
    confidential: bool | None = None


@dataclass(frozen=True)
class ControlFacts:
    """The same tuning without the synthetic rows, compared with the one with them.

    Attributes:
        tuning: what was tuned without them.
        rows: train rows that no teacher wrote.
        synthetic_rows: those that were left out.
        scores: exact match and loss (nats per token) of both, ``with`` and ``without``.
        figures: by the same names ``difference`` (with minus without), ``ci95`` and ``n`` rows.
    """

    tuning: TuneFacts = field(default_factory=TuneFacts)
    rows: int = 0
    synthetic_rows: int = 0
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
