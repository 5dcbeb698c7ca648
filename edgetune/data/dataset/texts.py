"""The texts by which rows are found similar."""

from __future__ import annotations

from edgetune.data.clean.texts import list_turns
from edgetune.data.rows import Row


def row_text(row: Row) -> str:
    """Return all that is said in a row, but for the system message, which many rows share."""
    if row.text is not None:
        return row.text
    return "\n".join(turn.content for turn in list_turns(row) if turn.role != "system")


def prompt_text(row: Row) -> str:
    """Return what is said before the answer, but for the system message; all of a plain text."""
    if row.text is not None:
        return row.text
    return "\n".join(turn.content for turn in row.prompt if turn.role != "system")
