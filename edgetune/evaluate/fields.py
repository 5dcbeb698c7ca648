"""Counts of fields that are right: scores and the table that extraction and tool calls share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgetune.evaluate import Line, Score, Table
from edgetune.evaluate.json_values import Field
from edgetune.measure.bootstrap import bootstrap_each, ratio, sums_of

PATHS = 200  # of the table


def field_scores(
    wanted: Sequence[Counter[Field]], found: Sequence[Counter[Field]], prefix: str
) -> list[Score]:
    """Return F1, precision and recall over the fields of all rows.

    Args:
        wanted: fields of each row.
        found: those of each answer.
        prefix: of the scores' names.
    """
    pairs = list(zip(found, wanted, strict=True))
    counts = [[_both(one, other).total(), one.total(), other.total()] for one, other in pairs]
    formulas = {"f1": f1_of_fields, "precision": _precision, "recall": _recall}
    sums = sums_of(np.array(counts, np.float64), f1_of_fields)
    estimates = bootstrap_each(sums, list(formulas.values()))
    return [
        Score(f"{prefix}_{name}", estimate, sums=replace(sums, formula=formula))
        for (name, formula), estimate in zip(formulas.items(), estimates, strict=True)
    ]


def field_table(
    wanted: Sequence[Counter[Field]], found: Sequence[Counter[Field]], title: str
) -> Table:
    """Return precision, recall and F1 of each path, the most frequent first."""
    counts: dict[str, list[int]] = {}
    for other, one in zip(wanted, found, strict=True):
        for at, part in enumerate((other, one, _both(other, one))):
            for (path, _), times in part.items():
                counts.setdefault(path, [0, 0, 0])[at] += times
    lines: list[Line] = []
    for path in sorted(counts, key=lambda path: (-counts[path][0], path))[:PATHS]:
        expected, answered, hits = counts[path]
        precision = hits / answered if answered else None
        recall = hits / expected if expected else None
        f1 = 2 * hits / (expected + answered)
        lines.append([path or "(whole value)", expected, answered, precision, recall, f1])
    columns = ["Field", "In rows", "In answers", "Precision", "Recall", "F1"]
    return Table("per_field", title, columns, lines)


def _both(one: Counter[Field], other: Counter[Field]) -> Counter[Field]:
    """Return the fields that two texts share; equal texts have one counter, which is not copied."""
    return one if one is other else one & other


def f1_of_fields(sums: np.ndarray) -> np.ndarray:
    """Return F1 of sums, shape (M, 3): fields that are right, of answers, of rows."""
    return ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2])


def _precision(sums: np.ndarray) -> np.ndarray:
    return ratio(sums[:, 0], sums[:, 1])


def _recall(sums: np.ndarray) -> np.ndarray:
    return ratio(sums[:, 0], sums[:, 2])
