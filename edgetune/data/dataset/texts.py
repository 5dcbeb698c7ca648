"""The texts by which rows are found similar."""

from __future__ import annotations

from edgetune.data.clean.texts import list_contents
from edgetune.data.rows import Row


def row_text(row: Row) -> str:
    """Return all that is said in a row."""
    return "\n".join(list_contents(row))


def prompt_text(row: Row) -> str:
    """Return what is said before the answer; all of a plain text."""
    return row.text if row.text is not None else "\n".join(turn.content for turn in row.prompt)
