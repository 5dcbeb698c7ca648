"""Simulated votes of known strengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from edgetune.votes.counted import Counted


def draw_votes(
    draw: np.random.Generator,
    strengths: Sequence[float],
    rows: int,
    voters: int = 1,
    ties: float = 0.2,
    side: float = 0.0,
    spread: tuple[float, float] = (0.0, 0.0),
) -> Counted:
    """Return one vote of each voter on every pair of models on each row, sides at random.

    Args:
        draw: source of randomness.
        strengths: log odds of each model.
        rows: how many.
        voters: how many.
        ties: probability of a tie.
        side: added to the log odds of the answer shown first.
        spread: standard deviation of the log odds of one model between rows, and between voters.
    """
    pairs = np.asarray(list(combinations(range(len(strengths)), 2)))
    row_I = np.repeat(np.arange(rows), len(pairs))
    first_I, second_I = np.tile(pairs, (rows, 1)).T
    swapped = draw.random(len(row_I)) < 0.5
    first_I, second_I = (
        np.where(swapped, second_I, first_I),
        np.where(swapped, first_I, second_I),
    )
    items, rows_N, first, second = (
        np.tile(one, voters) for one in (np.arange(len(row_I)), row_I, first_I, second_I)
    )
    voters_N = np.repeat(np.arange(voters), len(row_I))
    of_row = draw.normal(0, spread[0], (rows, len(strengths)))
    of_voter = draw.normal(0, spread[1], (voters, len(strengths)))

    def log_odds(models: np.ndarray) -> np.ndarray:
        base = np.asarray(strengths)[models]
        return np.asarray(base + of_row[rows_N, models] + of_voter[voters_N, models])

    p = 1 / (1 + np.exp(-(log_odds(first) - log_odds(second) + side)))
    choices = np.where(draw.random(len(p)) < p, "first", "second").astype("<U6")
    choices[draw.random(len(p)) < ties] = "tie"
    names = [f"m{n}" for n in range(len(strengths))]
    return Counted(names, items, rows_N, voters_N, first, second, choices)
