"""Estimates with 95 % intervals. Rows are the sampling unit: their tokens are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959964  # 97.5 % quantile of the normal distribution
#: That of Student's t with 1, 2, 3 … degrees of freedom; beyond, a series in their inverse.
_T95 = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157,
    2.228139, 2.200985, 2.178813, 2.160369, 2.144787, 2.131450,
)  # fmt: skip

EXACT_ROWS = 400  # that differ: beyond, the normal approximation of the signed-rank test


@dataclass(frozen=True)
class Estimate:
    """A value, its number of observations, and its interval where one makes sense."""

    value: float
    n: int
    ci95: tuple[float, float] | None = None


def t95(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t, right to 1e-5.

    Beyond the table by Cornish and Fisher's series (Abramowitz and Stegun 1964, 26.7.5).

    Raises:
        ValueError: degrees of freedom are not positive.
    """
    if degrees < 1:
        raise ValueError("no degrees of freedom")
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z = Z95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + float(sum(term / degrees**power for power, term in enumerate(terms, 1)))


def proportion(successes: int, n: int) -> Estimate:
    """Return the fraction of successes with its Wilson interval (Wilson 1927).

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


def paired_difference(one: Sequence[bool], other: Sequence[bool]) -> Estimate:
    """Return the difference of two fractions over the same rows, one minus the other.

    The interval is the adjusted Wald one for paired data (Agresti and Min 2005, Statistics in
    Medicine 24, 729-740): half a row is added to each cell of the two-by-two table, so that it has
    a width where all rows agree.

    Raises:
        ValueError: no rows, or not as many of each.
    """
    if len(one) != len(other):
        raise ValueError("not as many rows of each")
    if len(one) == 0:
        raise ValueError("a difference over no rows")
    first, second = np.asarray(one, bool), np.asarray(other, bool)
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    n = len(first) + 2
    centre = (gained - lost) / n
    half = Z95 * math.sqrt(max(0.0, gained + lost + 1 - (gained - lost) ** 2 / n)) / n
    bounds = (max(-1.0, centre - half), min(1.0, centre + half))
    return Estimate((gained - lost) / len(first), len(first), bounds)


def ratio_of_sums(sums: Sequence[float], counts: Sequence[int]) -> Estimate:
    """Return the mean over all positions, with an interval over rows.

    Args:
        sums: for each row the sum of a quantity over its positions.
        counts: for each row how many positions it has.

    The estimate is sum(sums) / sum(counts); its variance is the linearised one of a ratio estimator
    over sampled rows (Cochran, Sampling Techniques, 3rd ed., section 6.3), its interval that of
    Student's t, since the variance is estimated too: with five rows it is 1.4 times as wide as the
    normal one. ``n`` counts rows; with one row there is no interval.

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
    half = t95(rows - 1) * error
    return Estimate(mean, rows, (mean - half, mean + half))


def bits_per_byte(nll_sums: Sequence[float], sizes: Sequence[int]) -> Estimate:
    """Return the bits that texts take by a model per byte of UTF-8, with an interval over rows.

    Unlike a mean per token it compares models of different tokenizers.

    Args:
        nll_sums: negative log likelihood of each text, in nats; or its difference between models.
        sizes: bytes of each text.

    Raises:
        ValueError: no bytes at all.
    """
    return ratio_of_sums([nll / math.log(2) for nll in nll_sums], sizes)


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean of independent values and its interval.

    Raises:
        ValueError: no values.
    """
    return ratio_of_sums(values, [1] * len(values))


@dataclass(frozen=True)
class Paired:
    """What one model gives beyond another on the same rows.

    Attributes:
        difference: mean over rows, with its interval (Student's t over rows).
        p_value: two-sided, of Wilcoxon's signed-rank test; 1 where no row differs.
    """

    difference: Estimate
    p_value: float


def compare_paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compare two models by their values on the same rows: ``first`` less ``second``.

    The test is exact: the distribution of the sum of ranks is counted, ties at their mean rank and
    rows without a difference left out (Wilcoxon 1945; Pratt and Gibbons 1981, section 3.6). Of
    values 0 and 1 it is McNemar's exact test.

    Raises:
        ValueError: no rows, or not as many of each.
    """
    differences = np.subtract(np.asarray(first, np.float64), np.asarray(second, np.float64))
    if len(first) != len(second):
        raise ValueError("not as many rows of each")
    return Paired(mean(differences.tolist()), _signed_rank(differences[differences != 0]))


def _signed_rank(differences: np.ndarray) -> float:
    """Return the two-sided p value of a sum of signed ranks; none of them is 0."""
    if len(differences) == 0:
        return 1.0
    sizes, groups = np.unique(np.abs(differences), return_inverse=True)
    counts = np.bincount(groups, minlength=len(sizes))
    ends = np.cumsum(counts)
    doubled = (2 * ends - counts + 1)[groups]  # twice the mean rank of each, a whole number
    total = int(doubled.sum())
    observed = int(doubled[differences > 0].sum())
    if len(differences) > EXACT_ROWS:
        z = (2 * observed - total) / math.sqrt(float((doubled.astype(np.float64) ** 2).sum()))
        return math.erfc(abs(z) / math.sqrt(2))
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for rank in doubled.tolist():  # each sign is a fair coin
        chances[rank:] = chances[rank:] + chances[: total + 1 - rank]
        chances /= 2
    low = min(observed, total - observed)
    return min(1.0, 2 * float(chances[: low + 1].sum()))


def percentile(values: Sequence[float] | np.ndarray, percent: float) -> float:
    """Return the value below which ``percent`` of 100 lie, interpolated linearly.

    Raises:
        ValueError: no values.
    """
    if len(values) == 0:
        raise ValueError("a percentile of nothing")
    return float(np.percentile(values, percent))
