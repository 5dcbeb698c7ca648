"""Prompts that a training samples answers to."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgetune.data.dataset.tables import RowTable
from edgetune.data.encode import Encoder
from edgetune.data.rows import Message, Row
from edgetune.errors import InputError

_PLACEHOLDER = Message("assistant", "-")


@dataclass(frozen=True)
class Prompts:
    """Rows with the tokens that their answers are sampled after."""

    rows: Sequence[Row]
    ids: list[array[int]]

    @classmethod
    def of(cls, rows: Sequence[Row], encoder: Encoder) -> Prompts:
        """Encode the prompts of conversations.

        Raises:
            InputError: plain texts, which have none; or a row that the template refuses.
        """
        ids = []
        for row in rows:
            if row.text is not None:
                raise InputError("a plain text has no prompt to answer", where=row.where)
            ids.append(array("i", encoder.prompt(_open(row))))
        return cls(rows, ids)

    def select(self, numbers: Sequence[int]) -> Prompts:
        """Return some of the prompts; rows of a mapped table stay there."""
        ids = [self.ids[number] for number in numbers]
        if isinstance(self.rows, RowTable):
            return Prompts(self.rows.select(np.asarray(numbers)), ids)
        return Prompts([self.rows[number] for number in numbers], ids)


def _open(row: Row) -> Row:
    """Return a row whose last turn is an answer, which is not looked at."""
    return row if row.is_answered else replace(row, messages=(*row.messages, _PLACEHOLDER))
