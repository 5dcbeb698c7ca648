"""Tests of paired differences, correction for many of them, and how many rows one would need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from edgetune.measure.statistics import Z95

POWER = 0.8  # with which a difference of the size seen would be found
EXACT_PAIRS = 1000  # that differ: beyond, the normal approximation with continuity correction


def mcnemar(gained: int, lost: int, mid: bool = True) -> float:
    """Return the two-sided p value of rows that two models answer differently.

    Args:
        gained: rows that only the second model answers right.
        lost: rows that only the first does.
        mid: the mid-p value, which is nearer to its nominal level than the exact test, which errs
            to the safe side (Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology
            13, 91).

    Raises:
        ValueError: a negative number of rows.
    """
    if min(gained, lost) < 0:
        raise ValueError("a negative number of rows")
    differing, fewer = gained + lost, min(gained, lost)
    if differing == 0:
        return 1.0
    if differing > EXACT_PAIRS:
        z = (abs(gained - lost) - (0 if mid else 1)) / math.sqrt(differing)
        return min(1.0, math.erfc(max(0.0, z) / math.sqrt(2)))
    tail = sum(math.comb(differing, k) for k in range(fewer + 1))
    point = math.comb(differing, fewer)
    twice = 2 * tail - (point if mid else 0)
    return float(min(1.0, twice / 2**differing))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted so that all comparisons together have the level of one.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70. NaN stays NaN and is not
    counted.
    """
    known = sorted((p, at) for at, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, at) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[at] = highest
    return adjusted


def rows_needed(difference: float, deviation: float, power: float = POWER) -> int | None:
    """Return how many rows would show a difference at 95 % certainty.

    Args:
        difference: between two models, per row in the mean.
        deviation: standard deviation of the rows' differences.
        power: probability with which a test over so many rows finds it.

    Returns:
        Rows; ``None`` where the difference is 0, which no number of rows shows.
    """
    if difference == 0 or math.isnan(difference) or math.isnan(deviation):
        return None
    quantiles = Z95 + NormalDist().inv_cdf(power)
    return max(2, math.ceil((quantiles * deviation / difference) ** 2))


def rows_for_width(half_width: float, deviation: float) -> int:
    """Return how many rows make an interval of a mean that is at most so wide to either side.

    Raises:
        ValueError: a width that is not positive.
    """
    if half_width <= 0:
        raise ValueError("the width of an interval is positive")
    return max(2, math.ceil((Z95 * deviation / half_width) ** 2))
