"""Shards: a few thousand rows, cleaned and encoded by one process and kept in a folder of files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.data.dataset.arrow import MappedTable
from edgetune.data.dataset.tables import (
    RowTable,
)
from edgetune.data.load import READ, UNUSED, LeftOutCounts
from edgetune.data.rows import Row

#: Records of a shard, good and bad ones: rendered and tokenized by one process.
SHARD_RECORDS = 4096
_BATCH = 512  # rendered and tokenized together
#: A row's status: it trains; the template or the embedding has no place for it; all its trained
#: tokens are cut off.
OK, REFUSED, EMPTY = range(3)


@dataclass(frozen=True)
class Dropped:
    """A row that was left out or changed, and why: a line of ``dropped.jsonl``.

    Attributes:
        where: file and line.
        step: of the preparation.
        reason: in words.
        what: ``dropped`` or ``changed``.
        row: its content, where it was dropped.
    """

    where: str
    step: str
    reason: str
    what: str = "dropped"
    row: Any = None

    def line(self) -> str:
        """Return the JSON line."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        return json.dumps(values, ensure_ascii=False, default=str) + "\n"


@dataclass
class ShardRows:
    """The rows of a shard before they are encoded.

    Attributes:
        rows: in the order of the source.
        dropped: records that are no rows.
        keys: of all records, in the order they were met.
        examples: for each reason of ``dropped`` the first, with its place.
        part: which source of the split they are of.
        groups: of each row the value of the column that splits rows, where there is one.
    """

    rows: list[Row]
    dropped: list[Dropped] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    examples: dict[str, str] = field(default_factory=dict)
    part: int = 0
    groups: list[str] = field(default_factory=list)


def describe(row: Row) -> dict[str, Any]:
    """Return a row's content as plain values, as files have it."""
    if row.text is not None:
        return {"text": row.text}
    value: dict[str, Any] = {"messages": [message.as_turn() for message in row.messages]}
    if row.rejected:
        value["rejected"] = [message.as_turn() for message in row.rejected]
    if row.label is not None:
        value["label"] = row.label
    return {**value, "tools": json.loads(row.tools)} if row.tools else value


class Shard:
    """A shard that is written: its columns in memory, its rows and tokens mapped when asked for.

    Attributes:
        status: of each row, uint8 [rows].
        row_hash: of all that is said in it, uint64 [rows].
        label: hash of the answer, uint64 [rows].
        group: hash of the column that splits rows, uint64 [rows].
        unread: number, in ``unread_keys``, of the keys that the template does not read [rows].
        found: what cleaning found: step, reason and what became of the rows, to how many.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with np.load(folder / "columns.npz", allow_pickle=False) as columns:
            self.status: np.ndarray = columns["status"]
            self.row_hash: np.ndarray = columns["row_hash"]
            self.unread: np.ndarray = columns["unread"]
            self.label: np.ndarray = columns["label"]
            self.group: np.ndarray = columns["group"]
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self.refused: dict[int, str] = {int(n): why for n, why in facts["refused"].items()}
        self.unread_keys: list[list[str]] = facts["unread"]
        self.found: list[tuple[str, str, str, int]] = facts["found"]
        self.keys: list[str] = facts["keys"]
        self.part: int = facts["part"]
        self.left_out: dict[str, dict[str, int]] = facts["left_out"]
        self.examples: dict[str, str] = facts["examples"]
        self.encoder: dict[str, Any] | None = facts["encoder"]

    def __len__(self) -> int:
        return len(self.status)

    @property
    def rows(self) -> MappedTable:
        return MappedTable(self.folder / "rows")

    @property
    def tokens(self) -> MappedTable:
        return MappedTable(self.folder / "tokens")

    @property
    def prompt_hash(self) -> np.ndarray:
        return RowTable(self.rows).prompt_hashes

    def sketch(self, name: str) -> np.ndarray:
        """Return the band hashes ``bands`` (of all that is said) or ``prompt_bands``."""
        with np.load(self.folder / "columns.npz", allow_pickle=False) as columns:
            found: np.ndarray = columns[name]
        return found

    @property
    def counts(self) -> LeftOutCounts:
        """The records that gave no row."""
        counts = {step: Counter(self.left_out.get(step, {})) for step in (READ, UNUSED)}
        return LeftOutCounts(counts[READ], counts[UNUSED], self.examples)

    def dropped(self) -> Iterable[str]:
        """Yield its lines of ``dropped.jsonl``."""
        with (self.folder / "dropped.jsonl").open(encoding="utf-8") as lines:
            yield from lines
