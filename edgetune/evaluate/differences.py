"""Differences of models on the same rows, with the rows that went right and wrong between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetune.evaluate import Graded, Score
from edgetune.evaluate.paired import Difference, compare_scores
from edgetune.evaluate.predictions import PROMPTED
from edgetune.measure.significance import holm
from edgetune.measure.statistics import mean

ALSO = ("f1_macro",)  # of what is no row by row right or wrong: to compare each takes minutes


@dataclass(frozen=True)
class Named:
    """A model by its place in the run, and what its answers were graded."""

    name: str
    role: str
    graded: Graded


def find_pairs(models: Sequence[Named]) -> list[tuple[Named, Named]]:
    """Return (reference, candidate) for each question that a run asks.

    Did tuning help: teacher against base and its prompts. Did distilling keep it: student against
    teacher and baseline, and, as it is what ships, base and prompts. Did shipping keep it: files
    against the teacher and the merged model, and against the base.
    """
    against = {
        "teacher": ("base", PROMPTED),
        "baseline": ("teacher",),
        "merged": ("base", PROMPTED, "teacher", "baseline"),
        "file": ("base", "teacher", "merged"),
    }
    return [
        (reference, candidate)
        for candidate in models
        for role in against.get(candidate.role, ())
        for reference in models
        if reference.role == role
    ]


def find_differences(models: Sequence[Named], headline: str) -> list[dict[str, Any]]:
    """Return the paired differences of every pair of models, a metric at a time.

    Metrics are the headline, those that are right or wrong row by row, and macro F1.

    Returns:
        ``reference, candidate, metric, difference`` (candidate less reference), ``ci95, p_value,
        p_adjusted`` (Holm, over all pairs of the metric), ``n`` and ``rows_needed``.
    """
    found: list[dict[str, Any]] = []
    for reference, candidate in find_pairs(models):
        known = {score.name: score for score in reference.graded.scores}
        for score in candidate.graded.scores:
            other = known.get(score.name)
            compared = score.name in (headline, *ALSO) or _is_binary(score)
            paired = compare_scores(score, other) if compared and other is not None else None
            if paired is not None:
                figures = to_figures(score.name, paired)
                found.append({"reference": reference.name, "candidate": candidate.name, **figures})
    for metric in dict.fromkeys(one["metric"] for one in found):
        _adjust([one for one in found if one["metric"] == metric])
    return found


def compare_rows(metric: str, values: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return the paired differences of a mean over rows, of each model less each one before it.

    Args:
        metric: its name.
        values: by model, of the same rows in the same order.

    Returns:
        As :func:`find_differences`; p values are adjusted over all pairs.

    Raises:
        ValueError: not as many rows of each.
    """
    scores = {name: Score(metric, mean(rows), rows) for name, rows in values.items()}
    found: list[dict[str, Any]] = []
    for number, (candidate, score) in enumerate(scores.items()):
        for reference, other in list(scores.items())[:number]:
            paired = compare_scores(score, other)
            if paired is not None:
                figures = to_figures(metric, paired)
                found.append({"reference": reference, "candidate": candidate, **figures})
    _adjust(found)
    return found


def _adjust(differences: Sequence[dict[str, Any]]) -> None:
    """Add the p values that Holm's method makes of those of one metric."""
    adjusted = holm([one["p_value"] for one in differences])
    for one, p_value in zip(differences, adjusted, strict=True):
        one["p_adjusted"] = p_value


def _is_binary(score: Score) -> bool:
    return score.rows is not None and {*score.rows} <= {0.0, 1.0}


def to_figures(metric: str, found: Difference) -> dict[str, Any]:
    """Return a difference as JSON values: ``metric, difference, ci95, p_value, n, rows_needed``."""
    estimate = found.estimate
    return {
        "metric": metric,
        "difference": estimate.value,
        "ci95": list(estimate.ci95) if estimate.ci95 else None,
        "p_value": found.p_value,
        "n": estimate.n,
        "rows_needed": found.rows_needed,
    }


def count_flips(right: Mapping[str, Sequence[bool]]) -> list[dict[str, Any]]:
    """Return for each pair of models how many rows went right to wrong, and wrong to right.

    Args:
        right: by model, in the report's order, whether each answer is right.

    Returns:
        ``reference, candidate, lost, gained, both_right, both_wrong``; the reference comes first
        in the report's order.
    """
    names = list(right)
    rows = [np.asarray(right[name], bool) for name in names]
    found = []
    for later in range(len(names)):
        for earlier in range(later):
            before, after = rows[earlier], rows[later]
            both = int((before & after).sum())
            lost, gained = int(before.sum()) - both, int(after.sum()) - both
            found.append(
                {
                    "reference": names[earlier], "candidate": names[later], "lost": lost,
                    "gained": gained, "both_right": both,
                    "both_wrong": len(before) - both - lost - gained,
                }
            )  # fmt: skip
    return found
