"""Rows and their tokens in memory-mapped tables: a million take no more memory than one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import pyarrow as pa

from edgetune.data.dataset.arrow import MappedTable
from edgetune.data.encode_rows import quantile
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Message, Row
from edgetune.data.split import hash_text, prompt_key

_BATCH = 1024
_TURNS = pa.list_(
    pa.struct(
        [("role", pa.string()), ("content", pa.string()), ("more", pa.string()),
         ("trains", pa.bool_())]
    )
)  # fmt: skip
#: Columns of rows; ``messages`` is null for plain text, ``text`` for a conversation, ``rejected``
#: and ``label`` for all but pairs of answers and answers with a thumb.
ROW_SCHEMA = pa.schema(
    [("messages", _TURNS), ("text", pa.string()), ("tools", pa.string()), ("where", pa.string()),
     ("rejected", _TURNS), ("label", pa.bool_()), ("prompt_hash", pa.uint64()),
     ("leaked", pa.bool_())]
)  # fmt: skip
#: Columns of tokens; ``row`` is the number of the row that they are a piece of.
TOKEN_SCHEMA = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("completion_mask", pa.list_(pa.uint8())),
     ("truncated", pa.bool_()), ("row", pa.int64())]
)  # fmt: skip


def as_row_table(rows: Sequence[Row]) -> pa.Table:
    """Return rows as a table of :data:`ROW_SCHEMA`."""
    columns: dict[str, list[Any]] = {
        "messages": [_as_turns(row.messages) if row.text is None else None for row in rows],
        "text": [row.text for row in rows],
        "tools": [row.tools for row in rows],
        "where": [row.where for row in rows],
        "rejected": [_as_turns(row.rejected) or None for row in rows],
        "label": [row.label for row in rows],
        "leaked": [False] * len(rows),
        "prompt_hash": [hash_text(prompt_key(row)) for row in rows],
    }
    return pa.table(columns, schema=ROW_SCHEMA)


def as_token_table(encoded: Sequence[Encoded], numbers: Sequence[int]) -> pa.Table:
    """Return tokens as a table of :data:`TOKEN_SCHEMA`; ``numbers`` are those of their rows."""
    ends = np.cumsum([0, *(len(one.ids) for one in encoded)], dtype=np.int32)
    ids = np.concatenate([np.asarray(one.ids, np.int32) for one in encoded] or [np.empty(0, "i4")])
    mask = np.concatenate([np.asarray(one.trained, np.uint8) for one in encoded] or [ids[:0]])
    columns = [
        pa.ListArray.from_arrays(ends, ids),
        pa.ListArray.from_arrays(ends, mask.astype(np.uint8)),
        pa.array([one.truncated for one in encoded], pa.bool_()),
        pa.array(np.asarray(numbers, np.int64)),
    ]
    return pa.Table.from_arrays(columns, schema=TOKEN_SCHEMA)


def lengths_of(rows: Sequence[Encoded]) -> list[int]:
    """Return the tokens of each row."""
    if isinstance(rows, TokenTable):
        return [int(length) for length in rows.lengths]
    return [len(row.ids) for row in rows]


class RowTable(Sequence[Row]):
    """Rows of a mapped table, or some of them in an order of their own."""

    def __init__(self, mapped: MappedTable, numbers: np.ndarray | None = None) -> None:
        self.mapped = mapped
        self._numbers = np.arange(len(mapped)) if numbers is None else numbers

    @classmethod
    def open(cls, path: Path) -> RowTable:
        """Map the rows in a folder that ``prepare`` wrote."""
        return cls(MappedTable(path))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> RowTable: ...
    def __getitem__(self, index: int | slice) -> Row | RowTable:
        if isinstance(index, slice):
            return RowTable(self.mapped, self._numbers[index])
        return _as_row(self.mapped.take([self._numbers[index]])[0])

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _BATCH):
            for value in self.mapped.take(self._numbers[start : start + _BATCH]):
                yield _as_row(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def leaked(self) -> np.ndarray:
        """Whether train has each row's prompt, or a similar one, bool [rows]."""
        return self.mapped.numbers("leaked")[self._numbers].astype(bool)

    def select(self, places: np.ndarray) -> RowTable:
        """Return the rows at ``places``, numbers or a mask."""
        return RowTable(self.mapped, self._numbers[places])

    @property
    def numbers(self) -> np.ndarray:
        """The number of each row in its file, int64 [rows]."""
        return self._numbers

    @property
    def prompt_hashes(self) -> np.ndarray:
        """The hash of each row's prompt, uint64 [rows]; equal prompts have equal ones."""
        return self.mapped.numbers("prompt_hash")[self._numbers]


class TokenTable(Sequence[Encoded]):
    """Encoded rows of a mapped table, or some of them in an order of their own."""

    def __init__(self, mapped: MappedTable, numbers: np.ndarray | None = None) -> None:
        self._mapped = mapped
        self._numbers = np.arange(len(mapped)) if numbers is None else numbers
        self._starts, self._ids = mapped.lists("input_ids")
        _, self._masks = mapped.lists("completion_mask")
        self._truncated = mapped.numbers("truncated").astype(bool)

    @classmethod
    def open(cls, path: Path) -> TokenTable:
        """Map the tokens in a folder that ``prepare`` wrote."""
        return cls(MappedTable(path))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...
    @overload
    def __getitem__(self, index: slice) -> TokenTable: ...
    def __getitem__(self, index: int | slice) -> Encoded | TokenTable:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        number = int(self._numbers[index])
        place = int(np.searchsorted(self._starts, number, side="right")) - 1
        at = number - int(self._starts[place])
        ends, ids = self._ids[place]
        mask_ends, mask = self._masks[place]
        return Encoded(
            cast(Any, ids[ends[at] : ends[at + 1]]),
            cast(Any, mask[mask_ends[at] : mask_ends[at + 1]]),
            bool(self._truncated[number]),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def select(self, places: np.ndarray) -> TokenTable:
        """Return the encoded rows at ``places``, numbers or a mask."""
        return TokenTable(self._mapped, self._numbers[places])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [rows]."""
        parts = [np.diff(ends) for ends, _ in self._ids]
        return np.concatenate(parts or [np.empty(0)]).astype(np.int64)[self._numbers]

    @property
    def truncated(self) -> np.ndarray:
        """Whether each row's end was cut off, bool [rows]."""
        return self._truncated[self._numbers]

    def of_rows(self, numbers: np.ndarray) -> TokenTable:
        """Return the pieces of rows, in the order of their numbers; it is a whole table's."""
        owners = self.rows
        starts = np.searchsorted(owners, numbers, side="left")
        counts = np.searchsorted(owners, numbers, side="right") - starts
        return self.select(expand_ranges(starts, counts))

    def measure(self, unknown_id: int | None) -> dict[str, Any]:
        """Count tokens, trained tokens, truncated rows, and what the vocabulary cannot say."""
        lengths = sorted(lengths_of(self))
        times = np.bincount(self._numbers, minlength=len(self._mapped))
        unknown_id = -1 if unknown_id is None else unknown_id
        trained = unknown = answers = 0
        for start, (ends, ids), (_, mask) in zip(
            self._starts, self._ids, self._masks, strict=False
        ):
            owners = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
            weights = times[start : start + len(ends) - 1]
            trained += int((np.bincount(owners, mask, len(weights)) * weights).sum())
            found = ids == unknown_id
            unknown += int(weights[owners[found]].sum())
            answers += int(weights[np.unique(owners[found & (mask > 0)])].sum())
        return {
            "rows": len(self),
            "tokens": sum(lengths),
            "trained_tokens": trained,
            "lengths": {
                "min": quantile(lengths, 0.0),
                "p50": quantile(lengths, 0.5),
                "p95": quantile(lengths, 0.95),
                "max": quantile(lengths, 1.0),
            },
            "truncated": int(self.truncated.sum()),
            "unknown_tokens": unknown,
            "unknown_answers": answers,
        }

    def count_cut(self) -> dict[str, int]:
        """Count the texts that are cut into several pieces, and those."""
        pieces = np.bincount(self.rows) if len(self) else np.empty(0, np.int64)
        return {"texts": int((pieces > 1).sum()), "pieces": int(pieces[pieces > 1].sum())}

    @property
    def rows(self) -> np.ndarray:
        """The number of the row that each is a piece of, int64 [rows]."""
        return self._mapped.numbers("row")[self._numbers]


def expand_ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the numbers ``start … start + count - 1`` of each range, one after the other."""
    ends = np.cumsum(counts)
    places: np.ndarray = np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)
    return places


def _as_turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [
        {"role": one.role, "content": one.content, "more": one.more, "trains": one.trains}
        for one in messages
    ]


def _as_row(value: dict[str, Any]) -> Row:
    messages, rejected = (
        tuple(Message(**turn) for turn in value[key] or ()) for key in ("messages", "rejected")
    )
    return Row(messages, value["text"], value["where"], value["tools"], rejected, value["label"])
