"""Scores of slices: the headline metric, and those that gates name, each as all rows are scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from edgetune.evaluate import Score
from edgetune.evaluate.differences import Named
from edgetune.evaluate.slices import Slice
from edgetune.measure.bootstrap import bootstrap, bounded_mean
from edgetune.measure.statistics import Estimate, mean, proportion


@dataclass(frozen=True)
class Asked:
    """What a gate asks of graded answers.

    Attributes:
        metric: its name.
        slice: shell pattern over ``COLUMN=VALUE``; absent: all rows.
        models: shell pattern over their names.
        reference: the same, of those that they are compared with.
    """

    metric: str
    slice: str | None = None
    models: str = "*"
    reference: str | None = None


#: A score, and its values by row where it is a mean over rows.
Valued = tuple[Score, np.ndarray | None]


def grade_slices(
    models: Sequence[Named], slices: Sequence[Slice], asked: Sequence[Asked], rows: int
) -> list[list[dict[str, Any]]]:
    """Return for each model the entries of its slices, as JSON values.

    An entry is of one metric: the headline, and behind it those that a gate names. A metric of
    fewer rows than were asked (a likelihood of labels) is of no slice.

    Args:
        models: what their answers were graded.
        slices: which rows.
        asked: of gates.
        rows: that were asked.
    """
    found: list[list[dict[str, Any]]] = [[] for _ in models]
    known = [find_sliceable(model.graded.scores, rows) for model in models]
    for one in slices:  # models within slices: those of one slice share its resamples
        name = slice_name(one)
        wanted = {gate.metric for gate in asked if gate.slice and fnmatchcase(name, gate.slice)}
        for entries, scores in zip(found, known, strict=True):
            for at, (score, values) in enumerate(scores):
                if at == 0 or score.name in wanted:
                    entries.append(_as_entry(one, score, estimate_part(score, values, one.rows)))
    return found


def find_sliceable(scores: Sequence[Score], rows: int) -> list[Valued]:
    """Return the scores that have a value or statistics for each of the rows."""
    found: list[Valued] = []
    for score in scores:
        if score.rows is not None and len(score.rows) == rows:
            found.append((score, np.asarray(score.rows, np.float64)))
        elif score.rows is None and score.sums is not None and len(score.sums.groups) == rows:
            found.append((score, None))
    return found


def slice_name(one: Slice) -> str:
    """Return what patterns of gates are matched with."""
    return f"{one.column}={one.value}"


def estimate_part(score: Score, values: np.ndarray | None, rows: np.ndarray) -> Estimate:
    """Return a metric of some rows, with the interval that it has of all rows.

    Args:
        score: of all rows.
        values: its value for each row, shape (N,); None where it is a function of sums.
        rows: their numbers.
    """
    if values is None:
        assert score.sums is not None
        return bootstrap(score.sums.take(rows))
    if score.bounds is None:
        return estimate_rows(values[rows].tolist())
    known = values[rows][~np.isnan(values[rows])].tolist()
    return bounded_mean(known, score.bounds) if known else Estimate(math.nan, 0)


def estimate_rows(values: Sequence[float]) -> Estimate:
    """Return the mean over rows: of zeros and ones with Wilson's interval, else with Student's.

    Rows of which the metric is not defined (NaN) are left out.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return Estimate(math.nan, 0)
    if np.isin(known, (0.0, 1.0)).all():
        return proportion(int(known.sum()), len(known))
    return mean(known.tolist())


def _as_entry(one: Slice, score: Score, estimate: Estimate) -> dict[str, Any]:
    return {
        "column": one.column, "value": one.value, "title": one.title, "metric": score.name,
        "value_of_metric": estimate.value if math.isfinite(estimate.value) else None,
        "n": estimate.n, "ci95": list(estimate.ci95) if estimate.ci95 else None,
    }  # fmt: skip
