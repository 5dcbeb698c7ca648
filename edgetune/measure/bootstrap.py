"""Bootstrap over rows of metrics that are functions of sums: F1, BLEU, chrF, ratios.

What is resampled are each row's sufficient statistics, never its texts. Rows with equal statistics
form one group, so that a resample is a count of rows per group.

Shapes: N rows, G groups, K statistics, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from edgetune.measure.resampling import draw_halves, resample_sums
from edgetune.measure.statistics import Estimate, proportion, t95

RESAMPLES = 1000
PERMUTATIONS = 2000
BIASED = 0.5  # of BCa's bias correction, beyond which it covers less than 95 % (bench/judge.py)
_NORMAL = NormalDist()

#: From sums, shape (M, K), to the metric of each, shape (M,).
Formula = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sums:
    """A metric that is a function of sums over rows.

    Attributes:
        groups: for each row its group, shape (N,).
        statistics: of one row of each group, shape (G, K).
        formula: the metric of sums, shape (M, K) -> (M,).
        bounds: its least and greatest value.
    """

    groups: np.ndarray
    statistics: np.ndarray
    formula: Formula
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def counts(self) -> np.ndarray:
        """Rows of each group, shape (G,)."""
        return np.bincount(self.groups, minlength=len(self.statistics))

    @property
    def value(self) -> float:
        """The metric of all rows."""
        return float(self.formula((self.counts @ self.statistics)[None])[0])

    def take(self, rows: np.ndarray) -> Sums:
        """Return the metric of some rows, by their numbers."""
        return replace(self, groups=self.groups[rows])


def sums_of(rows: np.ndarray, formula: Formula, bounds: tuple[float, float] = (0.0, 1.0)) -> Sums:
    """Return sums of statistics of each row, shape (N, K), rows with equal ones in one group.

    Raises:
        ValueError: no rows.
    """
    if len(rows) == 0:
        raise ValueError("a metric of no rows")
    statistics, groups = np.unique(np.asarray(rows, np.float64), axis=0, return_inverse=True)
    return Sums(groups.reshape(-1), statistics, formula, bounds)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return one array over another, 0 where the other is 0."""
    found: np.ndarray = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return found


def bootstrap(sums: Sums, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return the metric with its 95 % interval over rows.

    The interval is BCa's (Efron 1987, Journal of the American Statistical Association 82,
    171-185), its quantiles those of Student's t with the factor sqrt(n / (n - 1)), without which
    bootstrap intervals are too narrow at small n (Hesterberg 2015, The American Statistician 69,
    371-386). Where resamples are far from the sample to one side (F1 of many labels with few rows
    each), BCa's quantiles would lie beyond the resamples: there the interval is Student's about the
    value less its bootstrap bias. Where no resample differs, it is Wilson's interval of none or all
    of the rows, scaled to the bounds; with one row there is none.
    """
    return bootstrap_each(sums, [sums.formula], resamples, seed)[0]


def bootstrap_each(
    sums: Sums, formulas: Sequence[Formula], resamples: int = RESAMPLES, seed: int = 0
) -> list[Estimate]:
    """Return several metrics of the same sums over the same resamples, as :func:`bootstrap`."""
    rows, counts = len(sums.groups), sums.counts
    statistics, counts = sums.statistics[counts > 0], counts[counts > 0]
    total = counts @ statistics
    values = [float(formula(total[None])[0]) for formula in formulas]
    if rows < 2:
        return [Estimate(value, rows) for value in values]
    (drawn,) = resample_sums(counts, [statistics], resamples, seed)
    left_out, found = total - statistics, []
    for formula, value in zip(formulas, values, strict=True):
        interval = _accelerated(value, formula(drawn), formula(left_out), counts)
        if interval is None:
            interval = _at_bound(value, rows, sums.bounds)
        low, high = sums.bounds
        kept = max(interval[0], min(low, value)), min(interval[1], max(high, value))
        found.append(Estimate(value, rows, kept))
    return found


def bounded_mean(values: Sequence[float], bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """Return the mean of values with known bounds, which its interval keeps to.

    Raises:
        ValueError: no values.
    """
    rows = np.stack([np.asarray(values, np.float64), np.ones(len(values))], axis=1)
    return bootstrap(sums_of(rows, lambda sums: sums[:, 0] / sums[:, 1], bounds))


def bootstrap_difference(
    first: Sums, second: Sums, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return the metric of one model less that of another on the same rows, rows paired.

    Raises:
        ValueError: not the same number of rows.
    """
    one, other, counts = _paired(first, second)
    rows, value = int(counts.sum()), first.value - second.value
    if rows < 2:
        return Estimate(value, rows)
    drawn, against = resample_sums(counts, [one, other], resamples, seed)
    values = first.formula(drawn) - second.formula(against)
    left_out = first.formula(counts @ one - one) - second.formula(counts @ other - other)
    interval = _accelerated(value, values, left_out, counts)
    if interval is None:
        span = first.bounds[1] - first.bounds[0]
        low, high = _at_bound(1.0, rows, (0.0, 1.0))
        interval = (value - span * (high - low), value + span * (high - low))
    return Estimate(value, rows, interval)


def permutation_p_value(
    first: Sums, second: Sums, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """Return the two-sided p value of a paired difference, by exchanging the models of rows.

    If both models were alike, each row's answers could as well be the other's (approximate
    randomization: Noreen 1989; Riezler and Maxwell 2005). The smallest is 1 / (permutations + 1).

    Raises:
        ValueError: not the same number of rows.
    """
    one, other, counts = _paired(first, second)
    observed = abs(first.value - second.value)
    total_one, total_other = counts @ one, counts @ other
    apart = (one != other).any(axis=1)  # rows that are the same in both move nothing
    moves, reached = (other - one)[apart], 0
    if not len(moves):
        return 1.0
    for swapped in draw_halves(counts[apart], moves.shape[1], permutations, seed):
        moved = swapped @ moves
        values = first.formula(total_one + moved) - second.formula(total_other - moved)
        reached += int((np.abs(values) >= observed - 1e-12 * max(1.0, observed)).sum())
    return (1 + reached) / (1 + permutations)


def _paired(first: Sums, second: Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the statistics of both, shape (G, K) each, by groups of pairs, and their rows."""
    if len(first.groups) != len(second.groups):
        raise ValueError("not as many rows of each")
    pairs = first.groups.astype(np.int64) * len(second.statistics) + second.groups
    found, counts = np.unique(pairs, return_counts=True)
    one, other = np.divmod(found, len(second.statistics))
    return first.statistics[one], second.statistics[other], counts


def _accelerated(
    value: float, values: np.ndarray, left_out: np.ndarray, counts: np.ndarray
) -> tuple[float, float] | None:
    """Return BCa's interval; ``None`` where no resample differs.

    Args:
        value: of the sample.
        values: of the resamples.
        left_out: without one row of each group.
        counts: rows of each group.
    """
    rows = int(counts.sum())
    deviations = np.average(left_out, weights=counts) - left_out
    spread = float(counts @ deviations**2)
    if values.max() - values.min() <= 1e-12 or spread <= 0:
        return None
    acceleration = float(counts @ deviations**3) / (6 * spread**1.5)
    tolerance = 1e-12 * max(1.0, abs(value))
    below = (values < value - tolerance).sum() + 0.5 * (np.abs(values - value) <= tolerance).sum()
    below = min(max(below / len(values), 1 / len(values)), 1 - 1 / len(values))
    shift = _NORMAL.inv_cdf(float(below))
    quantile = t95(rows - 1) * math.sqrt(rows / (rows - 1))
    if abs(shift) > BIASED:
        centre, half = 2 * value - float(values.mean()), quantile * float(values.std())
        return min(centre - half, value), max(centre + half, value)
    percents = []
    for z in (-quantile, quantile):
        moved = shift + z
        percents.append(100 * _NORMAL.cdf(shift + moved / (1 - acceleration * moved)))
    low, high = np.percentile(values, percents)
    return float(min(low, value)), float(max(high, value))


def _at_bound(value: float, rows: int, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return Wilson's interval of none or all of the rows, scaled to the bounds."""
    low, high = bounds
    successes = rows if value >= (low + high) / 2 else 0
    ends = proportion(successes, rows).ci95
    assert ends is not None
    return low + (high - low) * ends[0], low + (high - low) * ends[1]
