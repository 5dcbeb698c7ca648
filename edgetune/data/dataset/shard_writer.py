"""Make a shard: rows cleaned, encoded and sketched, and written whole."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.data.chat_format import prints_time, unread_keys
from edgetune.data.clean import Finding, clean_rows, sketch_texts
from edgetune.data.dataset.arrow import ArrowWriter
from edgetune.data.dataset.encoding import fingerprint
from edgetune.data.dataset.shard import EMPTY, REFUSED, Dropped, ShardRows, describe
from edgetune.data.dataset.tables import ROW_SCHEMA, TOKEN_SCHEMA, as_row_table, as_token_table
from edgetune.data.dataset.texts import prompt_text, row_text
from edgetune.data.encode import Encoder
from edgetune.data.encode_rows import unknown_id
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Row
from edgetune.data.split import hash_text, prompt_key
from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.recipe import DataSection

_BATCH = 512  # rendered and tokenized together


def write_shard(
    folder: Path, shard: ShardRows, section: DataSection, encoder: Encoder | None
) -> None:
    """Clean and encode a shard's rows and write it; a folder of that name is complete.

    Writes:
        ``rows`` and ``tokens`` (see :mod:`edgetune.data.dataset.tables`), ``columns.npz`` (numbers
        a row), ``dropped.jsonl``, ``facts.json``.

    Raises:
        InputError: the template refuses a row and ``on_bad_row`` is ``error``.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    cleaned = _clean(shard, section)
    rows = cleaned.rows
    with ArrowWriter(part / "rows", ROW_SCHEMA) as file:
        file.write(as_row_table(rows))
    status = np.zeros(len(rows), np.uint8)
    refused: dict[int, str] = {}
    if encoder is not None:
        status, refused = _write_tokens(part / "tokens", rows, section, encoder)
    unread, keys = _find_unread(rows, encoder)
    numbers = dict(
        status=status,
        row_hash=_hash(f"{prompt_key(row)}\0{row.answer}\0{row.rejected}" for row in rows),
        label=_hash(row.answer for row in rows),
        group=_hash(cleaned.groups),
        unread=unread,
        **_sketch(rows, section),
    )
    np.savez(part / "columns.npz", allow_pickle=False, **numbers)
    dropped = [*shard.dropped, *cleaned.dropped, *_drop(rows, status, refused, section)]
    (part / "dropped.jsonl").write_text("".join(one.line() for one in dropped), encoding="utf-8")
    facts = {
        "keys": shard.keys,
        "part": shard.part,
        "left_out": _count(one for one in dropped if one.what == "dropped"),
        "found": [[*key, count] for key, count in cleaned.found.items()],
        "examples": shard.examples,
        "refused": refused,
        "unread": keys,
        "encoder": None if encoder is None else _describe_encoder(encoder),
    }
    write_atomic(part / "facts.json", json.dumps(facts, ensure_ascii=False))
    part.rename(folder)


@dataclass(frozen=True)
class _CleanedShard:
    """The rows that cleaning left, with their groups, and what it found."""

    rows: list[Row]
    groups: list[str]
    dropped: list[Dropped]
    found: Counter[tuple[str, str, str]]


def _clean(shard: ShardRows, section: DataSection) -> _CleanedShard:
    """Run the row-wise steps of ``data.clean``."""
    done = _CleanedShard([], [], [], Counter())
    groups = shard.groups or [""] * len(shard.rows)
    cleaned = clean_rows(shard.rows, section.clean)
    for row, group, result in zip(shard.rows, groups, cleaned, strict=True):
        done.found.update((one.step, one.reason, one.action) for one in result.findings)
        done.dropped.extend(_tell(row, one) for one in result.findings if one.action != "reported")
        if result.row is not None:
            done.rows.append(result.row)
            done.groups.append(group)
    return done


def _tell(row: Row, finding: Finding) -> Dropped:
    """Return the line of a row that was changed or dropped; a changed row is in the dataset."""
    content = describe(row) if finding.action == "dropped" else None
    return Dropped(row.where, finding.step, finding.reason, finding.action, content)


def _sketch(rows: Sequence[Row], section: DataSection) -> dict[str, np.ndarray]:
    """Return the sketches that the search for duplicates and for leaks will ask for."""
    found = {}
    if section.clean.near_duplicates != "off":
        found["bands"] = sketch_texts([row_text(row) for row in rows])
    if section.clean.leakage != "off":
        found["prompt_bands"] = sketch_texts([prompt_text(row) for row in rows])
    return found


def _hash(texts: Iterable[str]) -> np.ndarray:
    return np.fromiter((hash_text(text) for text in texts), np.uint64)


def _write_tokens(
    folder: Path, rows: Sequence[Row], section: DataSection, encoder: Encoder
) -> tuple[np.ndarray, dict[int, str]]:
    """Write the rows' tokens; return each row's status, and why some are refused."""
    status = np.zeros(len(rows), np.uint8)
    refused: dict[int, str] = {}
    with ArrowWriter(folder, TOKEN_SCHEMA) as file:
        for start, encoded in _encode(encoder, rows, section, refused):
            numbers = [start + at for at, pieces in enumerate(encoded) for _ in pieces]
            file.write(as_token_table([one for pieces in encoded for one in pieces], numbers))
            for at, pieces in enumerate(encoded, start):
                if pieces and not any(any(one.trained[1:]) for one in pieces):
                    status[at] = EMPTY
    status[list(refused)] = REFUSED
    return status, refused


def _find_unread(
    rows: Sequence[Row], encoder: Encoder | None
) -> tuple[np.ndarray, list[list[str]]]:
    """Return a number for each row of the keys that its template does not read, and those keys."""
    keys: dict[tuple[str, ...], int] = {(): 0}
    unread = np.zeros(len(rows), np.uint16)
    source = "" if encoder is None else str(encoder.tokenizer.chat_template)
    for number, row in enumerate(rows):
        if encoder is not None and not row.is_plain:
            unread[number] = keys.setdefault(tuple(unread_keys(row, source)), len(keys))
    return unread, [list(one) for one in keys]


def _drop(
    rows: Sequence[Row], status: np.ndarray, refused: dict[int, str], section: DataSection
) -> Iterator[Dropped]:
    """Yield the rows that have no tokens to train."""
    for number in np.flatnonzero(status).tolist():
        cut_off = f"the prompt fills data.max_length {section.max_length}"
        row, reason = rows[number], refused.get(number, cut_off)
        yield Dropped(row.where, "encode", reason, row=describe(row))


def _count(dropped: Iterable[Dropped]) -> dict[str, Counter[str]]:
    """Return how many rows were left out, by step and reason."""
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
