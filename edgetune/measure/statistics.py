"""Estimates with 95 % intervals. Rows are the sampling unit: their tokens are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A value, how many observations it stands on, and its interval where one makes sense."""

    value: float
    n: int
    ci95: tuple[float, float] | None = None


def proportion(successes: int, n: int) -> Estimate:
    """Return the share of successes with its Wilson interval (Wilson 1927).

    Unlike the normal one it stays inside [0, 1] and is honest at 0 of n and n of n.

    Raises:
        ValueError: n is not positive.
    """
    if n <= 0:
        raise ValueError("a proportion of nothing")
    share, z2 = successes / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Estimate(share, n, (max(0.0, centre - half), min(1.0, centre + half)))


def ratio_of_sums(sums: Sequence[float], counts: Sequence[int]) -> Estimate:
    """Return the mean over all positions, with an interval over rows.

    Args:
        sums: for each row the sum of a quantity over its positions.
        counts: for each row how many positions it has.

    The estimate is sum(sums) / sum(counts); its variance is the linearised one of a ratio estimator
    over sampled rows (Cochran, Sampling Techniques, 3rd ed., section 6.3). ``n`` counts rows; with
    one row there is no interval.

    Raises:
        ValueError: no positions at all.
    """
    y, x = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    if x.sum() <= 0:
        raise ValueError("a mean over no positions")
    mean, rows = float(y.sum() / x.sum()), len(y)
    if rows < 2:
        return Estimate(mean, rows)
    residuals = y - mean * x
    error = math.sqrt(rows / (rows - 1) * float(residuals @ residuals)) / float(x.sum())
    return Estimate(mean, rows, (mean - Z95 * error, mean + Z95 * error))


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean of independent values and its interval.

    Raises:
        ValueError: no values.
    """
    return ratio_of_sums(values, [1] * len(values))


def percentile(values: Sequence[float] | np.ndarray, percent: float) -> float:
    """Return the value below which ``percent`` of 100 lie, interpolated linearly.

    Raises:
        ValueError: no values.
    """
    if len(values) == 0:
        raise ValueError("a percentile of nothing")
    return float(np.percentile(values, percent))
