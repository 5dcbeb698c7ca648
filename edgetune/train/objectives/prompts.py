"""Prompts that a training samples answers to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgetune.data.encode import Encoder
from edgetune.data.rows import Message, Row
from edgetune.errors import InputError

_PLACEHOLDER = Message("assistant", "-")


@dataclass(frozen=True)
class Prompts:
    """Rows with the tokens that their answers are sampled after."""

    rows: list[Row]
    ids: list[list[int]]

    @classmethod
    def of(cls, rows: Sequence[Row], encoder: Encoder) -> Prompts:
        """Encode the prompts of conversations.

        Raises:
            InputError: plain texts, which have none; or a row that the template refuses.
        """
        kept = list(rows)
        for row in kept:
            if row.text is not None:
                raise InputError("a plain text has no prompt to answer", where=row.where)
        return cls(kept, [encoder.prompt(_open(row)) for row in kept])


def _open(row: Row) -> Row:
    """Return a row whose last turn is an answer, which is not looked at."""
    return row if row.is_answered else replace(row, messages=(*row.messages, _PLACEHOLDER))
