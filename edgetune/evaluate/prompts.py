"""Prompts of untouched models against the tuned one, over test rows that train has not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgetune.evaluate import Score
from edgetune.evaluate.differences import Named, to_figures
from edgetune.evaluate.paired import compare_scores
from edgetune.evaluate.predictions import PROMPTED
from edgetune.evaluate.slice_scores import estimate_part, find_sliceable

TUNED = ("merged", "teacher")  # what files are made of; of a run without a student, the teacher


def compare_prompts(
    models: Sequence[Named], headline: str, leaked: Sequence[bool]
) -> list[dict[str, Any]]:
    """Return the headline metric of base, prompts and tuned model, and the tuned one less each.

    Rows that train has too are left out: the tuned model may have learnt their answers by heart.

    Args:
        models: what their answers were graded, of all rows.
        headline: the metric.
        leaked: whether train has each row.

    Returns:
        ``name, role, metric, value, ci95, n`` and ``difference`` (that of the tuned model's value,
        with ``ci95, p_value, n, rows_needed``; none of the tuned model itself). Nothing unless a
        tuned model and a prompt were graded by the metric.
    """
    rows = np.flatnonzero(~np.asarray(leaked, bool))
    tuned = next((one for role in TUNED for one in models if one.role == role), None)
    if tuned is None or not len(rows) or all(one.role != PROMPTED for one in models):
        return []
    wanted = [one for one in models if one.role in ("base", PROMPTED)] + [tuned]
    scores = [_take(one, headline, rows, len(leaked)) for one in wanted]
    last = scores[-1]
    if last is None:
        return []
    found = []
    for one, score in zip(wanted, scores, strict=True):
        if score is None:
            continue
        estimate = score.estimate
        paired = compare_scores(last, score) if one is not tuned else None
        found.append(
            {
                "name": one.name, "role": one.role, "metric": headline, "value": estimate.value,
                "ci95": list(estimate.ci95) if estimate.ci95 else None, "n": estimate.n,
                "difference": to_figures(headline, paired) if paired else None,
            }
        )  # fmt: skip
    return found


def _take(model: Named, metric: str, rows: np.ndarray, every: int) -> Score | None:
    """Return a model's score of some rows; None where it is not defined of them."""
    for score, values in find_sliceable(model.graded.scores, every):
        if score.name == metric:
            estimate = estimate_part(score, values, rows)
            if np.isnan(estimate.value):
                return None
            if values is None:
                assert score.sums is not None
                return replace(score, estimate=estimate, sums=score.sums.take(rows))
            return replace(score, estimate=estimate, rows=values[rows].tolist(), sums=None)
    return None
