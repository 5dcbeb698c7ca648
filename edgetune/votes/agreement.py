"""Agreement of voters: Krippendorff's alpha, and how often two of them vote alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgetune.measure.bootstrap import bounded_mean
from edgetune.measure.statistics import Estimate, mean
from edgetune.votes.counted import Counted

RESAMPLES = 1000
#: What voters agree on: which answer is better, or that neither is.
CLASSES = (1.0, 0.0, 0.5)


@dataclass(frozen=True)
class Agreement:
    """Agreement on comparisons that several voters voted on.

    Attributes:
        alpha: 1: they always agree; 0: as by chance; below: less than by chance. ``n`` counts the
            comparisons. NaN where all of them voted the same on everything.
        alike: how often two votes on one comparison are the same, comparisons weighted equally.
    """

    alpha: Estimate
    alike: Estimate


def agreement(votes: Counted, seed: int = 0) -> Agreement | None:
    """Return the agreement, ``None`` where no comparison has two votes.

    Krippendorff's alpha for nominal data (Krippendorff 2019, Content Analysis, 4th ed., chapter
    12), a tie and "both bad" as one class; its interval is that of the bootstrap over comparisons.
    """
    counts_UC = count_classes(votes)
    counts_UC = counts_UC[counts_UC.sum(axis=1) > 1]
    units = len(counts_UC)
    if not units:
        return None
    size_U = counts_UC.sum(axis=1)
    same_U = (counts_UC * (counts_UC - 1)).sum(axis=1) / (size_U * (size_U - 1))
    parts_UK = np.column_stack([size_U * (1 - same_U), counts_UC])
    value = float(_alpha(parts_UK.sum(axis=0)[None])[0])
    interval = None
    if units > 1 and np.isfinite(value):
        draw = np.random.default_rng(seed)
        weights = draw.multinomial(units, np.full(units, 1 / units), RESAMPLES)
        drawn = _alpha(weights @ parts_UK)
        low, high = np.percentile(drawn[np.isfinite(drawn)], [2.5, 97.5])
        interval = (float(low), float(high))
    return Agreement(Estimate(value, units, interval), mean(same_U.tolist()))


def count_classes(votes: Counted) -> np.ndarray:
    """Return for each comparison how many votes each of :data:`CLASSES` has, shape (U, 3).

    A vote counts for a model, whichever order it saw.
    """
    low = np.minimum(votes.first, votes.second)
    won = np.where(votes.first == low, votes.won, 1 - votes.won)
    _, units = np.unique(votes.items, return_inverse=True)
    counts = np.zeros((units.max(initial=-1) + 1, len(CLASSES)))
    for at, one in enumerate(CLASSES):
        np.add.at(counts[:, at], units, won == one)
    return counts


def _alpha(sums_RK: np.ndarray) -> np.ndarray:
    """Return alpha of sums over comparisons: observed disagreement, then votes of each class."""
    counts_RC = sums_RK[:, 1:]
    n_R = counts_RC.sum(axis=1)
    expected_R = (n_R**2 - (counts_RC**2).sum(axis=1)) / (n_R - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - sums_RK[:, 0] / expected_R)


@dataclass(frozen=True)
class Accord:
    """How a judge model agrees with people, each vote of a person on a comparison that it voted on.

    Attributes:
        alike: how often a person's vote is the model's.
        chance: how often it would be if both voted at random, each class as often as they do.
    """

    alike: Estimate
    chance: float


def accord(people: Counted, model: Counted) -> Accord | None:
    """Return how a model's votes agree with people's; ``None`` without a common comparison.

    Args:
        people: votes of people.
        model: one vote per comparison.
    """
    verdicts = dict(zip(model.items.tolist(), _verdicts(model), strict=True))
    both = [
        (person, verdicts[item], item)
        for item, person in zip(people.items.tolist(), _verdicts(people), strict=True)
        if item in verdicts
    ]
    if not both:
        return None
    found: dict[int, list[bool]] = {}
    for person, verdict, item in both:
        found.setdefault(item, []).append(person == verdict)
    chance = sum(
        (sum(one == kind for one, _, _ in both) / len(both))
        * (sum(one == kind for _, one, _ in both) / len(both))
        for kind in CLASSES
    )
    return Accord(bounded_mean([sum(one) / len(one) for one in found.values()]), chance)


def settle(votes: Counted) -> tuple[list[bool], float, Counted]:
    """Return whether the two orders of each comparison agree, how often they would by chance, and
    one vote per comparison.

    Chance is that of votes that do not look at the answers: those of either order as often for the
    answer shown first, for the second and for neither as here, and dealt out at random. Where the
    orders do not agree, the vote is a tie: what it said depends on the order.
    """
    places: dict[int, list[int]] = {}
    for at, item in enumerate(votes.items.tolist()):
        places.setdefault(item, []).append(at)
    won = np.asarray(_verdicts(votes))
    both = [bool(won[at[0]] == won[at[1]]) for at in places.values() if len(at) == 2]
    shown = [float((votes.won == kind).mean()) if len(votes) else 0.0 for kind in CLASSES]
    first, second, neither = shown
    kept = np.asarray([at[0] for at in places.values()], np.int64)
    settled = votes.where(kept)
    differs = [len({float(won[one]) for one in at}) > 1 for at in places.values()]
    settled.choices[np.asarray(differs, bool)] = "tie"
    return both, 2 * first * second + neither**2, settled


def _verdicts(votes: Counted) -> list[float]:
    low = np.minimum(votes.first, votes.second)
    return list(np.where(votes.first == low, votes.won, 1 - votes.won).tolist())
