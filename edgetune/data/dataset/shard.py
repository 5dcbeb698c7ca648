"""Shards: a few thousand rows, cleaned and encoded by one process and kept in a folder of files."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.data.chat_format import prints_time, unread_keys
from edgetune.data.dataset.arrow import ArrowWriter, MappedTable
from edgetune.data.dataset.encoding import fingerprint
from edgetune.data.dataset.tables import (
    ROW_SCHEMA,
    TOKEN_SCHEMA,
    RowTable,
    as_row_table,
    as_token_table,
)
from edgetune.data.encode import Encoder
from edgetune.data.encode_rows import unknown_id
from edgetune.data.encoded import Encoded
from edgetune.data.load import READ, UNUSED, LeftOutCounts
from edgetune.data.rows import Row
from edgetune.data.split import hash_text, prompt_key
from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.recipe import DataSection

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
    """

    rows: list[Row]
    dropped: list[Dropped] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    examples: dict[str, str] = field(default_factory=dict)
    part: int = 0


def write_shard(
    folder: Path, shard: ShardRows, section: DataSection, encoder: Encoder | None
) -> None:
    """Encode a shard's rows and write it whole: a folder of that name is complete.

    Writes:
        ``rows`` and ``tokens`` (see :mod:`edgetune.data.dataset.tables`), ``columns.npz`` (status,
        hash of the row, keys that the template does not read), ``dropped.jsonl``, ``facts.json``.

    Raises:
        InputError: the template refuses a row and ``on_bad_row`` is ``error``.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    rows, dropped = list(shard.rows), list(shard.dropped)
    status = np.zeros(len(rows), np.uint8)
    keys: dict[tuple[str, ...], int] = {(): 0}
    unread = np.zeros(len(rows), np.uint8)
    refused: dict[int, str] = {}
    with ArrowWriter(part / "rows", ROW_SCHEMA) as file:
        file.write(as_row_table(rows))
    if encoder is not None:
        source = str(encoder.tokenizer.chat_template)
        with ArrowWriter(part / "tokens", TOKEN_SCHEMA) as file:
            for start, encoded in _encode(encoder, rows, section, refused):
                numbers = [start + at for at, pieces in enumerate(encoded) for _ in pieces]
                file.write(as_token_table([one for pieces in encoded for one in pieces], numbers))
                for at, pieces in enumerate(encoded, start):
                    if pieces and not any(any(one.trained[1:]) for one in pieces):
                        status[at] = EMPTY
        for number, row in enumerate(rows):
            if not row.is_plain:
                found = tuple(unread_keys(row, source))
                unread[number] = keys.setdefault(found, len(keys))
    for number, reason in refused.items():
        status[number] = REFUSED
        dropped.append(Dropped(rows[number].where, "encode", reason, row=describe(rows[number])))
    for number in np.flatnonzero(status == EMPTY).tolist():
        reason = f"the prompt fills data.max_length {section.max_length}"
        dropped.append(Dropped(rows[number].where, "encode", reason, row=describe(rows[number])))
    hashes = np.array([hash_text(f"{prompt_key(row)}\0{row.answer}") for row in rows], np.uint64)
    np.savez(part / "columns.npz", status=status, row_hash=hashes, unread=unread)
    (part / "dropped.jsonl").write_text("".join(one.line() for one in dropped), encoding="utf-8")
    facts = {
        "keys": shard.keys,
        "part": shard.part,
        "left_out": _count(dropped),
        "examples": shard.examples,
        "refused": refused,
        "unread": [list(one) for one in keys],
        "encoder": None if encoder is None else _describe_encoder(encoder),
    }
    write_atomic(part / "facts.json", json.dumps(facts, ensure_ascii=False))
    part.rename(folder)


def _count(dropped: Iterable[Dropped]) -> dict[str, Counter[str]]:
    """Return how many rows were left out or changed, by step and reason."""
    counts: dict[str, Counter[str]] = {}
    for one in dropped:
        counts.setdefault(one.step, Counter())[one.reason] += 1
    return counts


def _describe_encoder(encoder: Encoder) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint(encoder),
        "unknown_id": unknown_id(encoder),
        "clock": encoder.clock if prints_time(encoder.tokenizer) else None,
    }


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


def _encode(
    encoder: Encoder, rows: Sequence[Row], section: DataSection, refused: dict[int, str]
) -> Iterator[tuple[int, list[list[Encoded]]]]:
    """Yield the number of a batch's first row and each row's pieces; note what is refused."""
    for start in range(0, len(rows), _BATCH):
        found = encoder.encode_pieces(rows[start : start + _BATCH])
        pieces: list[list[Encoded]] = []
        for number, one in enumerate(found, start):
            if isinstance(one, InputError):
                if section.on_bad_row == "error":
                    hint = f"{one.hint}; data.on_bad_row: skip leaves it out".lstrip("; ")
                    raise InputError(one.what, where=one.where, hint=hint) from one
                refused[number] = one.what
            pieces.append([] if isinstance(one, InputError) else one)
        yield start, pieces


class Shard:
    """A shard that is written: its columns in memory, its rows and tokens mapped when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with np.load(folder / "columns.npz", allow_pickle=False) as columns:
            self.status: np.ndarray = columns["status"]
            self.row_hash: np.ndarray = columns["row_hash"]
            self.unread: np.ndarray = columns["unread"]
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self.refused: dict[int, str] = {int(n): why for n, why in facts["refused"].items()}
        self.unread_keys: list[list[str]] = facts["unread"]
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

    @property
    def counts(self) -> LeftOutCounts:
        """The records that gave no row."""
        counts = {step: Counter(self.left_out.get(step, {})) for step in (READ, UNUSED)}
        return LeftOutCounts(counts[READ], counts[UNUSED], self.examples)

    def dropped(self) -> Iterable[str]:
        """Yield its lines of ``dropped.jsonl``."""
        with (self.folder / "dropped.jsonl").open(encoding="utf-8") as lines:
            yield from lines
