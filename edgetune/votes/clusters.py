"""Variance of estimates from votes that are not independent: rows and voters repeat.

Votes on one row share the row, votes of one voter share the voter. Shapes: N votes, P parameters.
"""

from __future__ import annotations

import math

import numpy as np

from edgetune.measure.statistics import t95

#: From so many voters on, an interval also covers the choice of voters; with fewer it holds for
#: these voters and other rows, since two or three people say little of how people differ.
FEW_VOTERS = 5


def cluster_variance(
    influence_NP: np.ndarray, rows_N: np.ndarray, voters_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of each parameter, and its degrees of freedom.

    Clusters are rows and, from :data:`FEW_VOTERS` voters on, voters too: the variance between rows
    plus that between voters less that between votes (Cameron, Gelbach and Miller 2011, Journal of
    Business & Economic Statistics 29, 238-249), at least that between rows. Degrees of freedom are
    Satterthwaite's (1946, Biometrics Bulletin 2, 110-114), and those of rows where voters differ no
    more than votes do.

    Args:
        influence_NP: how much each vote moves each parameter, summing to about 0 over votes.
        rows_N: the row that each vote is on.
        voters_N: whose vote it is.
    """
    by_row, rows = _between(influence_NP, rows_N)
    if len(np.unique(voters_N)) < FEW_VOTERS:
        return by_row, np.full(by_row.shape, max(1, rows - 1))
    by_voter, voters = _between(influence_NP, voters_N)
    both_N = rows_N.astype(np.int64) * (int(voters_N.max()) + 1) + voters_N
    by_vote, votes = _between(influence_NP, both_N)
    total = np.maximum(by_row, by_row + by_voter - by_vote)
    parts = sum(
        variance**2 / max(1, count - 1)
        for variance, count in ((by_row, rows), (by_voter, voters), (by_vote, votes))
    )
    degrees = np.divide(total**2, parts, out=np.ones_like(total), where=parts > 0)
    degrees = np.clip(degrees, min(voters, rows) - 1, None)
    return total, np.where(by_voter <= by_vote, rows - 1, degrees)


def _between(influence_NP: np.ndarray, clusters_N: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the variance by independent clusters, and how many they are."""
    _, numbers = np.unique(clusters_N, return_inverse=True)
    count = int(numbers.max()) + 1
    sums = np.zeros((count, influence_NP.shape[1]))
    np.add.at(sums, numbers, influence_NP)
    return (sums**2).sum(axis=0) * count / max(1, count - 1), count


def t_interval(value: float, variance: float, degrees: float) -> tuple[float, float]:
    """Return the 95 % interval of Student's t."""
    half = t95(max(1, int(degrees))) * math.sqrt(variance)
    return value - half, value + half


def t_p_value(t: float, degrees: float) -> float:
    """Return the two-sided p value of Student's t (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).

    Degrees of freedom are rounded down; beyond 500 the normal distribution is used.
    """
    n = max(1, int(degrees))
    if n > 500:
        return math.erfc(abs(t) / math.sqrt(2))
    angle = math.atan2(abs(t), math.sqrt(n))
    cosine2 = math.cos(angle) ** 2
    term, total = 1.0, 0.0
    if n % 2:
        term = math.cos(angle)
        for k in range(1, n - 1, 2):
            total += term
            term *= cosine2 * (k + 1) / (k + 2)
        inside = (angle + math.sin(angle) * total) * 2 / math.pi
    else:
        for k in range(0, n - 1, 2):
            total += term
            term *= cosine2 * (k + 1) / (k + 2)
        inside = math.sin(angle) * total
    return max(0.0, 1.0 - inside)
