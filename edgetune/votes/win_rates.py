"""How often one model's answer is preferred to another's, and to the answer shown first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgetune.measure.statistics import Estimate
from edgetune.votes.clusters import cluster_variance, t_interval, t_p_value
from edgetune.votes.counted import Counted

Z80 = 0.841621  # 80 % quantile of the normal distribution: the power of rows_to_decide
Z95 = 1.959964


@dataclass(frozen=True)
class WinRate:
    """One model against another.

    Attributes:
        model: its number; ``against`` that of the other.
        wins: votes for it; ``losses`` for the other; ``ties`` and ``both_bad`` for neither.
        rate: wins and half of the votes for neither, as a fraction of all.
        rows: on which they were compared.
        p_value: two-sided, of a rate of one half.
        rows_to_decide: rows that would show the rate with a probability of 80 %, if it stays as it
            is; none where it is one half.
    """

    model: int
    against: int
    wins: int
    losses: int
    ties: int
    both_bad: int
    rate: Estimate
    rows: int
    p_value: float
    rows_to_decide: int | None


def win_rate(votes: Counted, model: int, against: int) -> WinRate:
    """Return the win rate of one pair.

    The interval is the adjusted Wald one (Agresti and Min 2005, Statistics in Medicine 24,
    729-740), which adds half a row that each model wins and one row without a winner, with the
    variance over clusters of :func:`cluster_variance`.

    Raises:
        ValueError: no votes between them.
    """
    chosen = votes.where(votes.between(model, against))
    if not len(chosen):
        raise ValueError("a win rate of no votes")
    won_N = np.where(chosen.first == model, chosen.won, 1 - chosen.won)
    decided_N = (chosen.choices == "first") | (chosen.choices == "second")
    wins = int((decided_N & (won_N == 1)).sum())
    rows = len(np.unique(chosen.rows))
    n, row_votes = len(chosen), chosen.row_votes
    total = n + 2 * row_votes
    centre = (won_N.sum() + row_votes) / total
    influence_N1 = ((won_N - centre) / total)[:, None]
    variance_1, degrees_1 = cluster_variance(influence_N1, chosen.rows, chosen.voters)
    prior = (1 - centre) ** 2 / 2 + centre**2 / 2 + (0.5 - centre) ** 2
    variance = float(variance_1[0] + prior * (row_votes / total) ** 2)
    degrees = float(degrees_1[0])
    low, high = t_interval(float(centre), variance, degrees)
    rate = Estimate(float(won_N.mean()), n, (max(0.0, low), min(1.0, high)))
    gap = abs(float(centre) - 0.5)
    needed = ((Z95 + Z80) ** 2 * variance * (rows + 2) / gap**2) if gap > 0 else math.inf
    return WinRate(
        model, against, wins, int(decided_N.sum()) - wins, int((chosen.choices == "tie").sum()),
        int((chosen.choices == "bad").sum()), rate, rows,
        t_p_value((float(centre) - 0.5) / math.sqrt(variance), degrees),
        math.ceil(needed) if math.isfinite(needed) else None,
    )  # fmt: skip


@dataclass(frozen=True)
class PositionBias:
    """Votes for the answer shown first: one half without bias, the models' strengths aside."""

    rate: Estimate
    p_value: float


def position_bias(votes: Counted) -> PositionBias:
    """Return how often the answer shown first wins, ties as half, each model as often first.

    Least squares of the votes on a constant and each pair's side, so that a better model that was
    shown first more often is no bias; clusters as in :func:`win_rate`.

    Raises:
        ValueError: no votes.
    """
    if not len(votes):
        raise ValueError("a bias of no votes")
    pairs = votes.pairs()
    x_NP = np.ones((len(votes), 1 + len(pairs)))
    for at, (one, other) in enumerate(pairs, 1):
        x_NP[:, at] = np.where(votes.between(one, other), np.where(votes.first == one, 1, -1), 0)
    # Ridge of one row a column, as the rows that win_rate adds: a pair may have one order only.
    row_votes = votes.row_votes
    gram_PP = x_NP.T @ x_NP + row_votes * np.eye(x_NP.shape[1])
    y_N = votes.won - 0.5
    beta_P = np.linalg.solve(gram_PP, x_NP.T @ y_N)
    to_first_P = np.linalg.solve(gram_PP, np.eye(x_NP.shape[1])[0])
    influence_N1 = ((y_N - x_NP @ beta_P) * (x_NP @ to_first_P))[:, None]
    variance_1, degrees_1 = cluster_variance(influence_N1, votes.rows, votes.voters)
    variance = float(variance_1[0] + 0.25 * (row_votes * to_first_P[0]) ** 2)
    degrees, value = float(degrees_1[0]), 0.5 + float(beta_P[0])
    low, high = t_interval(value, variance, degrees)
    t = (value - 0.5) / math.sqrt(variance)
    rate = Estimate(value, len(votes), (max(0.0, low), min(1.0, high)))
    return PositionBias(rate, t_p_value(t, degrees))
