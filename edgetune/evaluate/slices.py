"""Slices: rows that share a value of a column, a length or a label, graded apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetune.evaluate.predictions import Question

VALUES = 200  # of a column, the most frequent: beyond, it names rows more than groups of them
LENGTH, LABEL = "length", "label"


@dataclass(frozen=True)
class Slice:
    """Some rows.

    Attributes:
        column: by which they were chosen.
        value: what they share.
        rows: their numbers.
        title: of the value, where it needs more words.
    """

    column: str
    value: str
    rows: np.ndarray
    title: str = ""


def slice_rows(
    questions: Sequence[Question], columns: Sequence[str] = (), labelled: bool = False
) -> list[Slice]:
    """Return the slices by length of the prompt, by label where rows have one, and by columns.

    Rows without a value of a column are in none of its slices.
    """
    found = _slice_lengths([len(question.prompt) for question in questions])
    if labelled:
        found += _slice_values(LABEL, [question.expected.strip() for question in questions])
    for column in columns:
        found += _slice_values(column, [question.columns.get(column) for question in questions])
    return found


def _slice_lengths(lengths: Sequence[int]) -> list[Slice]:
    """Return thirds of the rows by characters of the prompt; equal lengths stay together."""
    if not lengths:
        return []
    counts = np.asarray(lengths)
    low, high = (int(end) for end in np.quantile(counts, (1 / 3, 2 / 3), method="lower"))
    parts = (
        ("short", counts <= low, f"up to {low:,} characters"),
        ("medium", (counts > low) & (counts <= high), f"{low + 1:,} to {high:,} characters"),
        ("long", counts > high, f"more than {high:,} characters"),
    )
    kept = [(name, np.flatnonzero(rows), title) for name, rows, title in parts if rows.any()]
    if len(kept) < 2:
        return []
    return [Slice(LENGTH, name, rows, title) for name, rows, title in kept]


def _slice_values(column: str, values: Sequence[Any]) -> list[Slice]:
    """Return a slice for each value, in the order of the values' texts."""
    groups: dict[str, list[int]] = {}
    for number, value in enumerate(values):
        if value is not None:
            groups.setdefault(str(value), []).append(number)
    frequent = sorted(groups, key=lambda value: (-len(groups[value]), value))[:VALUES]
    return [Slice(column, value, np.asarray(groups[value])) for value in sorted(frequent)]
