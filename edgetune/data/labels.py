"""Rows of a text and its label: which columns they are, and what is trained to be answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetune.recipe import Columns

# In order: of two columns that are there, the first is taken, and the other is said to be unused.
TEXTS = ("text", "sentence", "utterance", "query")
LABELS = (
    "label_text", "label_name", "intent", "category", "class", "label", "topic", "sentiment",
    "emotion",
)  # fmt: skip


def find_label_columns(values: Sequence[Mapping[str, Any]]) -> Columns | None:
    """Return the columns of text and label that the rows have, or ``None``.

    A label that is a text goes before one that is a number.
    """
    columns = [str(key) for key in values[0]] if values else []
    by_name = {name.lower(): name for name in columns}
    text = next((by_name[name] for name in TEXTS if name in by_name), None)
    if text is None or not any(isinstance(value.get(text), str) for value in values):
        return None
    for kinds in (str, int):
        for name in LABELS:
            column = by_name.get(name)
            if column is None:
                continue
            found = [value[column] for value in values if value.get(column) is not None]
            if found and all(isinstance(one, kinds) for one in found):
                return Columns(prompt=text, completion=column)
    return None
