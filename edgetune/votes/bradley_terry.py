"""Bradley-Terry scores with intervals: P(first answer wins) = logistic(score - score + side).

Bradley and Terry 1952, Biometrika 39, 324-345. Ties and "both bad" count as half a win for each
answer. The term ``side`` takes up a preference for the answer that is shown first.
Shapes: N votes, K votes with the prior's, M models, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgetune.measure.statistics import Estimate
from edgetune.votes.clusters import cluster_variance, t_interval
from edgetune.votes.counted import Counted

STEPS = 100
SMALL = 1e-9  # a step of Newton's method after which there is none
#: Rows of the prior for each model: half of them won, half lost, in either order.
PRIOR_ROWS = 1.0


@dataclass(frozen=True)
class Scores:
    """Scores of models that votes connect: log odds against their mean.

    Attributes:
        models: their numbers, best first.
        estimates: of each; ``n`` is the votes that it took part in.
    """

    models: list[int]
    estimates: list[Estimate]


def fit_scores(votes: Counted) -> list[Scores]:
    """Return scores of each group of models that votes connect, the largest group first.

    Models of different groups never met, not even through others, so nothing compares them.
    """
    found = []
    for group in connected(votes):
        estimates = _fit(votes.where(np.isin(votes.first, group)), group)
        order = sorted(range(len(group)), key=lambda at: -estimates[at].value)
        found.append(Scores([group[at] for at in order], [estimates[at] for at in order]))
    return sorted(found, key=lambda one: -len(one.models))


def connected(votes: Counted) -> list[list[int]]:
    """Return the groups of models that votes connect, each sorted."""
    groups: list[set[int]] = []
    for pair in votes.pairs():
        joined = set(pair).union(*(one for one in groups if one & set(pair)))
        groups = [one for one in groups if not one & joined] + [joined]
    return [sorted(one) for one in groups]


def _fit(votes: Counted, group: list[int]) -> list[Estimate]:
    """Fit one group; variances are of the sandwich form, over clusters of rows and voters."""
    first_N, second_N = np.searchsorted(group, votes.first), np.searchsorted(group, votes.second)
    real = len(votes)
    row_votes = votes.row_votes
    pairs_2 = np.asarray(votes.pairs()).T
    one, other = np.searchsorted(group, pairs_2)
    # The prior keeps the scores of a model finite that won or lost every vote.
    prior_weight = row_votes * PRIOR_ROWS / (4 * (len(group) - 1))
    x_KP = _design(
        np.concatenate([first_N, one, other, one, other]),
        np.concatenate([second_N, other, one, other, one]),
        len(group),
    )
    y_K = np.concatenate([votes.won, np.ones(2 * len(one)), np.zeros(2 * len(one))])
    weight_K = np.concatenate([np.ones(real), np.full(4 * len(one), prior_weight)])
    beta_P, hessian_PP = _newton(x_KP, y_K, weight_K)
    residual_K = weight_K * (y_K - _logistic(x_KP @ beta_P))
    scores_MP = np.zeros((len(group), x_KP.shape[1]))
    scores_MP[1:, 1:] = np.eye(len(group) - 1)
    scores_MP -= scores_MP.mean(axis=0)
    influence_KM = residual_K[:, None] * (x_KP @ np.linalg.solve(hessian_PP, scores_MP.T))
    variance_M, degrees_M = cluster_variance(influence_KM[:real], votes.rows, votes.voters)
    # The prior's votes are a fraction of a row each, whose votes are alike.
    variance_M = variance_M + (influence_KM[real:] ** 2).sum(axis=0) * row_votes / prior_weight
    return [
        Estimate(float(score), int(((first_N == at) | (second_N == at)).sum()), interval)
        for at, (score, interval) in enumerate(
            (score, t_interval(float(score), float(variance), float(degrees)))
            for score, variance, degrees in zip(
                scores_MP @ beta_P, variance_M, degrees_M, strict=True
            )
        )
    ]


def _design(first_N: np.ndarray, second_N: np.ndarray, models: int) -> np.ndarray:
    """Return the columns: one for the side, one for each model but the first."""
    x_NP = np.zeros((len(first_N), models))
    rows = np.arange(len(first_N))
    x_NP[rows, first_N] += 1
    x_NP[rows, second_N] -= 1
    x_NP[:, 0] = 1
    return x_NP


def _newton(
    x_KP: np.ndarray, y_K: np.ndarray, weight_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maximum of the weighted likelihood, and its Hessian there."""
    beta_P = np.zeros(x_KP.shape[1])
    for _ in range(STEPS):
        p_K = _logistic(x_KP @ beta_P)
        hessian_PP = (x_KP * (weight_K * p_K * (1 - p_K))[:, None]).T @ x_KP
        step_P = np.linalg.solve(hessian_PP, x_KP.T @ (weight_K * (y_K - p_K)))
        beta_P = beta_P + np.clip(step_P, -1, 1)
        if np.abs(step_P).max() < SMALL:
            break
    return beta_P, hessian_PP


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))
