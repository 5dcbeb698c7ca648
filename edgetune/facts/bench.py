"""What bench measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
    """

    name: str
    value: float
    unit: str
    n: int
    ci95: list[float] | None
    where: dict[str, Any]
    rows: list[float] | None = None


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
class BenchFacts:
    """All models that bench measured, in the report's order."""

    models: list[MeasuredModel]
