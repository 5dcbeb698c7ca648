"""What bench measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgetune.facts.fairness import FairnessFacts


@dataclass(frozen=True)
class Measurement:
    """A metric of a model, as :mod:`edgetune.measure.definitions` defines its name.

    Attributes:
        name: of the metric.
        value: NaN where it could not be computed.
        unit: empty for a ratio or a plain number.
        n: observations behind it.
        ci95: 95 % confidence interval, where one makes sense.
        where: runtime, device, threads and, for times, lengths of prompt and answer.
        rows: the value of each row, in the rows' order, where a comparison of two models on the
            same rows needs them.
        rows_sha256: of what these rows are: only values of the same rows are paired.
    """

    name: str
    value: float
    unit: str
    n: int
    ci95: list[float] | None
    where: dict[str, Any]
    rows: list[float] | None = None
    rows_sha256: str | None = None


@dataclass(frozen=True)
class NotMeasured:
    """A device that a model was not measured on, and why."""

    device: str
    why: str


@dataclass(frozen=True)
class MeasuredModel:
    """A model or file and its measurements; ``role`` is its place in the run."""

    name: str
    role: str
    format: str
    scheme: str
    path: str
    sha256: str
    bytes: int
    measurements: list[Measurement]
    not_measured: list[NotMeasured] | None = None


@dataclass(frozen=True)
class PromptedModel:
    """A model asked by one kind of prompt.

    Attributes:
        name: of model and prompt.
        model: ``base``, ``larger`` or ``tuned``.
        shots: examples in the prompt.
        system: whether the recipe's system prompt is in it.
        bytes: of the model's weights.
        measurements: ``exact_match``, ``request_tokens`` and ``request_ms_p50``.
        cut: requests with fewer examples, as the model's context holds no more.
        difference: exact match of the tuned model minus this one's, over the same rows, with
            ``ci95`` and ``n``; none for the tuned model itself, or without one.
        why: why it was not measured.
    """

    name: str
    model: str
    shots: int
    system: bool
    bytes: int
    measurements: list[Measurement]
    cut: int = 0
    difference: dict[str, Any] | None = None
    why: str = ""


@dataclass(frozen=True)
class PromptingFacts:
    """Prompts of untouched models against the tuned one.

    Attributes:
        models: every model and prompt that was asked, the tuned one last.
        best: name of the best prompt; none where nothing was measured.
        asked: test rows that all answered; those that train has too are left out.
    """

    models: list[PromptedModel]
    best: str | None
    asked: int


@dataclass(frozen=True)
class BenchFacts:
    """All models that bench measured, in the report's order."""

    models: list[MeasuredModel]
    prompting: PromptingFacts | None = None
    fairness: FairnessFacts | None = None
