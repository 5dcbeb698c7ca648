"""What a training on preferences gave, on validation rows: accuracy and margin, with intervals.

N pairs, L liked and D disliked answers.
"""

from __future__ import annotations

import math

import numpy as np

from edgetune.measure.statistics import Z95, Estimate, mean, proportion


def flatten(name: str, found: Estimate) -> dict[str, float]:
    """Return an estimate as figures: its value, and the ends of its interval where it has one."""
    ends = {} if found.ci95 is None else dict(zip(("low", "high"), found.ci95, strict=True))
    return {name: found.value, **{f"{name}_{end}": value for end, value in ends.items()}}


def pair_figures(before_N2: np.ndarray, after_N2: np.ndarray, beta: float) -> dict[str, float]:
    """Return what the training did to pairs.

    Args:
        before_N2: log probabilities of chosen and rejected answers before the training.
        after_N2: the same after it.
        beta: of the implicit reward, β · log(π / π_ref) (Rafailov et al. 2023, arXiv 2305.18290,
            section 4).

    Returns:
        ``preference_accuracy`` and ``preference_accuracy_before``: pairs whose chosen answer is the
        more probable one (Chen et al. 2024, arXiv 2405.19534, section 3); ``reward_accuracy``:
        pairs whose chosen answer gained more, by which half of them would by chance;
        ``reward_margin``: how much more. Ends of intervals have ``_low`` and ``_high`` behind.
    """
    margin_N = beta * (_margin(after_N2) - _margin(before_N2))
    return {
        "validation_pairs": float(len(margin_N)),
        **flatten("preference_accuracy_before", _share(_margin(before_N2))),
        **flatten("preference_accuracy", _share(_margin(after_N2))),
        **flatten("reward_accuracy", _share(margin_N)),
        **flatten("reward_margin", mean(margin_N.tolist())),
    }


def score_figures(before_N2: np.ndarray, after_N2: np.ndarray) -> dict[str, float]:
    """Return the same of a reward model's scores, where the margin is of the scores themselves."""
    return {
        "validation_pairs": float(len(after_N2)),
        **flatten("preference_accuracy_before", _share(_margin(before_N2))),
        **flatten("preference_accuracy", _share(_margin(after_N2))),
        **flatten("reward_margin", mean(_margin(after_N2).tolist())),
    }


def thumb_figures(rewards_L: np.ndarray, rewards_D: np.ndarray) -> dict[str, float]:
    """Return how well implicit rewards tell liked answers from disliked ones.

    Args:
        rewards_L: β · log(π / π_ref) of liked answers.
        rewards_D: of disliked ones.

    Returns:
        ``reward_accuracy``: how often a liked answer has a larger reward than a disliked one (0.5
        by chance; the area under the ROC curve), with Wilson's interval of as many rows as there
        are of the rarer kind, which is wide rather than narrow; ``reward_margin``: the difference
        of the means.
    """
    sizes = {"liked": len(rewards_L), "disliked": len(rewards_D)}
    counts = {f"validation_{name}": float(size) for name, size in sizes.items()}
    if not len(rewards_L) or not len(rewards_D):
        return counts
    margin = float(rewards_L.mean() - rewards_D.mean())
    found = Estimate(margin, len(rewards_L) + len(rewards_D))
    if min(len(rewards_L), len(rewards_D)) > 1:
        error = math.sqrt(sum(one.var(ddof=1) / len(one) for one in (rewards_L, rewards_D)))
        found = Estimate(margin, found.n, (margin - Z95 * error, margin + Z95 * error))
    return {
        **counts,
        **flatten("reward_accuracy", _area(rewards_L, rewards_D)),
        **flatten("reward_margin", found),
    }


def _margin(values_N2: np.ndarray) -> np.ndarray:
    margin: np.ndarray = values_N2[:, 0].astype(np.float64) - values_N2[:, 1]
    return margin


def _share(margin_N: np.ndarray) -> Estimate:
    return proportion(int((margin_N > 0).sum()), len(margin_N))


def _area(liked: np.ndarray, disliked: np.ndarray) -> Estimate:
    """Return the area under the ROC curve, a tie being half a success."""
    ordered = np.sort(disliked)
    below = np.searchsorted(ordered, liked, side="left")
    ties = np.searchsorted(ordered, liked, side="right") - below
    area = float((below + ties / 2).sum() / (len(liked) * len(disliked)))
    rarer = min(len(liked), len(disliked))
    return Estimate(area, rarer, proportion(round(area * rarer), rarer).ci95)
