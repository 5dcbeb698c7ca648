"""Axes of plots: from values to pixels, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One axis of a plot.

    Attributes:
        title: what it shows, with the unit.
        low, high: values at its ends.
        log: logarithmic.
        form: writes a tick's value.
    """

    title: str
    low: float
    high: float
    log: bool
    form: Callable[[float], str]

    def share(self, value: float) -> float:
        """Return where ``value`` lies, 0 at the low end and 1 at the high one."""
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value))
            if self.log
            else (self.low, self.high, value)
        )
        return (at - low) / (high - low)

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most ``most`` round values inside the axis."""
        steps = _log_steps(self.low, self.high) if self.log else _linear_steps(self.low, self.high)
        fitting = [ticks for ticks in steps if len(ticks) <= most]
        return max(fitting, key=len, default=[])


def fit_axis(
    title: str,
    values: Sequence[float],
    form: Callable[[float], str],
    *,
    log: bool = False,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Axis:
    """Return an axis that holds ``values`` with some air, and does not leave ``bounds``."""
    low, high = min(values), max(values)
    if log:
        air = max((high / low) ** 0.12, 1.3)
        return Axis(title, low / air, high * air, True, form)
    air = 0.12 * (high - low) or abs(high) * 0.1 or 1.0
    return Axis(title, max(low - air, bounds[0]), min(high + air, bounds[1]), False, form)


def _log_steps(low: float, high: float) -> list[list[float]]:
    """Candidate ticks: 1-2-5, 1-3, every decade, every second decade …"""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = range(first, last + 1)
    fine = [[m * 10.0**e for e in decades for m in marks] for marks in ((1, 2, 5), (1, 3))]
    sparse = [[10.0**e for e in decades if e % stride == 0] for stride in (1, 2, 3, 4, 6)]
    return [[v for v in ticks if low <= v <= high] for ticks in (*fine, *sparse)]


def _linear_steps(low: float, high: float) -> list[list[float]]:
    scale = 10.0 ** math.floor(math.log10(high - low))
    candidates = []
    for step in (m * scale for m in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        candidates.append([n * step for n in range(first, last + 1)])
    return candidates
