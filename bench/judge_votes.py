"""Do the intervals of votes cover what the votes were drawn from? Simulated elections.

Each setting draws elections of known strengths: few rows, many ties, an answer 1 that is preferred,
rows and voters that differ, many models, voters who stop early. Kept are how often the 95 %
intervals of win rates, Bradley-Terry scores and position bias cover the truth, how often a bias is
reported where there is none, and the coverage of the percentile bootstrap over rows beside them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgetune.votes.bradley_terry import fit_scores
from edgetune.votes.counted import Counted
from edgetune.votes.win_rates import position_bias, win_rate
from tests.votes.elections import draw_votes

ELECTIONS, QUICK = 1000, 100
DRAWN = 400_000  # draws of the differences between rows and voters, for the truth
RESAMPLES = 400


@dataclass(frozen=True)
class Setting:
    """An election; see :func:`tests.votes.elections.draw_votes`.

    Attributes:
        kept: probability that a voter votes on a comparison at all.
    """

    name: str
    strengths: tuple[float, ...]
    rows: int
    voters: int = 1
    ties: float = 0.2
    side: float = 0.0
    spread: tuple[float, float] = (0.0, 0.0)
    kept: float = 1.0


PAIR = (0.4, -0.4)
FOUR = (0.9, 0.2, -0.3, -0.8)
SETTINGS = [
    Setting("few votes", PAIR, 15),
    Setting("one voter", PAIR, 40),
    Setting("equal models", (0.0, 0.0), 40),
    Setting("one model far better", (1.2, -1.2), 40, ties=0.05),
    Setting("mostly ties", PAIR, 60, ties=0.7),
    Setting("answer 1 preferred", PAIR, 100, side=0.6),
    Setting("three voters, rows differ", PAIR, 40, 3, spread=(0.7, 0.0)),
    Setting("five voters", PAIR, 60, 5),
    Setting("eight voters, rows differ", PAIR, 40, 8, spread=(0.7, 0.0)),
    Setting("eight voters, rows and voters differ", PAIR, 40, 8, spread=(0.7, 0.4)),
    Setting("twenty voters, each stops early", PAIR, 60, 20, spread=(0.5, 0.3), kept=0.2),
    Setting("four models", FOUR, 20),
    Setting("four models, three voters, answer 1 preferred", FOUR, 20, 3, side=0.3),
    Setting("six models, few votes each", (1.0, 0.6, 0.2, -0.2, -0.6, -1.0), 40, kept=0.3),
]


def votes(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield a row per setting, and the coverage that is farthest from 95 %."""
    farthest = 0.95
    for setting in SETTINGS:
        began = time.perf_counter()
        row = run_setting(setting, QUICK if quick else ELECTIONS)
        for name in ("win_rate", "score", "position"):
            if abs(row[name] - 0.95) > abs(farthest - 0.95):
                farthest = row[name]
        yield {**asdict(setting), **row, "seconds": round(time.perf_counter() - began, 1)}
    yield {"figure": farthest, "elections": QUICK if quick else ELECTIONS, "of": len(SETTINGS)}


def run_setting(setting: Setting, elections: int) -> dict[str, Any]:
    """Return the coverage of each interval, as fractions of the elections."""
    draw = np.random.default_rng(0)
    rate, scores, first = find_truth(setting)
    hits: dict[str, list[bool]] = {
        name: [] for name in ("win_rate", "score", "position", "bias_reported", "bootstrap")
    }
    for _ in range(elections):
        drawn = draw_votes(
            draw, setting.strengths, setting.rows, setting.voters, setting.ties, setting.side,
            setting.spread,
        )  # fmt: skip
        drawn = drawn.where(draw.random(len(drawn)) < setting.kept)
        hits["win_rate"].append(_covers(win_rate(drawn, 0, 1).rate.ci95, rate))
        for group in fit_scores(drawn):
            if len(group.models) == len(setting.strengths):
                hits["score"] += [
                    _covers(one.ci95, scores[model])
                    for model, one in zip(group.models, group.estimates, strict=True)
                ]
        bias = position_bias(drawn)
        hits["position"].append(_covers(bias.rate.ci95, first))
        hits["bias_reported"].append(bias.p_value < 0.05)
        hits["bootstrap"].append(_covers(bootstrap_rate(drawn, draw), rate))
    return {name: round(float(np.mean(found)), 4) for name, found in hits.items()}


def bootstrap_rate(drawn: Counted, draw: np.random.Generator) -> tuple[float, float]:
    """Return the percentile bootstrap interval over rows of the first pair's win rate."""
    chosen = drawn.where(drawn.between(0, 1))
    won = np.where(chosen.first == 0, chosen.won, 1 - chosen.won)
    _, rows = np.unique(chosen.rows, return_inverse=True)
    sums, counts = np.bincount(rows, won), np.bincount(rows)
    weights = draw.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES)
    low, high = np.percentile(weights @ sums / (weights @ counts), [2.5, 97.5])
    return float(low), float(high)


def find_truth(setting: Setting) -> tuple[float, np.ndarray, float]:
    """Return the first pair's win rate, each score, and how often answer 1 wins.

    Scores are those that endless votes would give: the maximum of the likelihood of the expected
    votes, which differ from the strengths where there are ties, or rows and voters differ.
    """
    strengths = np.asarray(setting.strengths)
    size = np.sqrt(2 * (setting.spread[0] ** 2 + setting.spread[1] ** 2))
    noise = size * np.random.default_rng(1).normal(size=DRAWN if size else 1)
    expected = np.full((len(strengths), len(strengths)), np.nan)  # of the one shown first
    for a in range(len(strengths)):
        for b in range(len(strengths)):
            if a != b:
                odds = strengths[a] - strengths[b] + setting.side + noise
                won = (1 / (1 + np.exp(-odds))).mean()
                expected[a, b] = (1 - setting.ties) * won + setting.ties / 2
    rate = (expected[0, 1] + 1 - expected[1, 0]) / 2
    return float(rate), _fit_expected(expected), float(np.nanmean(expected))


def _fit_expected(expected: np.ndarray) -> np.ndarray:
    """Fit scores and side by gradient ascent, apart from the package's own Newton's method."""
    models = len(expected)
    scores, side = np.zeros(models), 0.0
    off = ~np.eye(models, dtype=bool)
    for _ in range(20_000):
        p = 1 / (1 + np.exp(-(scores[:, None] - scores[None, :] + side)))
        residual = np.where(off, np.nan_to_num(expected) - p, 0.0)
        step = residual.sum(axis=1) - residual.sum(axis=0)
        scores, side = scores + step / models, side + residual.sum() / models**2
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(scores - scores.mean())


def _covers(interval: tuple[float, float] | None, truth: float) -> bool:
    return interval is not None and bool(interval[0] <= truth <= interval[1])
