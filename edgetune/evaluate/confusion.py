"""Counts of labels: what was asked for, what was answered, and the formulas over them.

Shapes: N rows, C labels; the answer C is any text that is no label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgetune.measure.bootstrap import Formula, Sums, ratio

OTHER = "(no label)"  # the column of answers that are no label


def count_pairs(expected: np.ndarray, answered: np.ndarray, labels: int) -> np.ndarray:
    """Return the confusion matrix, shape (C, C + 1): rows of each expected and answered label."""
    cells = expected * (labels + 1) + answered
    return np.bincount(cells, minlength=labels * (labels + 1)).reshape(labels, labels + 1)


def class_sums(expected: np.ndarray, answered: np.ndarray, labels: int, formula: Formula) -> Sums:
    """Return a formula over true positives, answers and rows of each label, shape (N, 3 C).

    Rows of one cell of the confusion matrix have the same statistics.
    """
    cells, groups = np.unique(expected * (labels + 1) + answered, return_inverse=True)
    wanted, given = np.divmod(cells, labels + 1)
    statistics = np.zeros((len(cells), 3 * labels))
    at = np.arange(len(cells))
    known = given < labels
    statistics[at[wanted == given], wanted[wanted == given]] = 1
    statistics[at[known], labels + given[known]] = 1
    statistics[at, 2 * labels + wanted] = 1
    return Sums(groups.reshape(-1), statistics, formula)


def per_class(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and F1 of each label, shape (M, C) each; 0 where nothing counts."""
    parts = np.split(sums, 3, axis=1)
    return _of_class(0, *parts), _of_class(1, *parts), _of_class(2, *parts)


def _of_class(at: int, hits: np.ndarray, given: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return precision, recall or F1 of each label, shape (M, C), by its place in that list."""
    if at == 2:
        return ratio(2 * hits, given + wanted)
    return ratio(hits, (given, wanted)[at])


def average(name: str, how: str) -> Formula:
    """Return the formula of ``precision``, ``recall`` or ``f1`` over classes.

    Args:
        name: of the metric.
        how: ``macro`` (the mean over labels that rows or answers have), ``weighted`` (by the rows
            of each label) or ``micro`` (over all answers that are labels).
    """
    at = ("precision", "recall", "f1").index(name)

    def formula(sums: np.ndarray) -> np.ndarray:
        hits, given, wanted = np.split(sums, 3, axis=1)
        if how == "micro":
            totals = [part.sum(axis=1) for part in (hits, given, wanted)]
            below = (totals[1], totals[2], (totals[1] + totals[2]) / 2)[at]
            return ratio(totals[0], below)
        values = _of_class(at, hits, given, wanted)
        weights = wanted if how == "weighted" else ((given + wanted) > 0).astype(np.float64)
        return ratio((values * weights).sum(axis=1), weights.sum(axis=1))

    return formula


def label_numbers(
    texts: Sequence[str], labels: Sequence[str], other: int, ignore_case: bool = False
) -> np.ndarray:
    """Return the number of each text's label, ``other`` for a text that is none, shape (N,).

    Outer white space does not count; with ``ignore_case`` neither do case and outer punctuation,
    where only one label is meant.
    """
    exact = {label: number for number, label in enumerate(labels)}
    loose: dict[str, int | None] = {}
    for label, number in exact.items():
        key = fold(label)
        loose[key] = None if key in loose else number
    found = []
    for text in texts:
        at = exact.get(text.strip())
        if at is None and ignore_case:
            at = loose.get(fold(text))
        found.append(other if at is None else at)
    return np.asarray(found, np.int64)


def fold(text: str) -> str:
    """Return a text without case, outer white space and outer punctuation."""
    return text.strip().strip("\"'`.,;:!?()[]{}*").strip().casefold()
