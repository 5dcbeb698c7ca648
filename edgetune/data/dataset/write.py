"""Write a dataset's final files: the rows and tokens of each split, and what was left out."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from edgetune.data.dataset.arrow import ArrowWriter, write_splits_index
from edgetune.data.dataset.columns import Columns
from edgetune.data.dataset.select import LeftOutRows, Selection
from edgetune.data.dataset.settings import Settings
from edgetune.data.dataset.shard import EMPTY, OK, REFUSED, SHARD_RECORDS, Dropped, Shard, describe
from edgetune.data.dataset.similar import read_rows
from edgetune.data.dataset.tables import (
    ROW_SCHEMA,
    TOKEN_SCHEMA,
    RowTable,
    TokenTable,
    expand_ranges,
)
from edgetune.data.encode_rows import warn_of
from edgetune.data.rows import Row
from edgetune.errors import InputError
from edgetune.log import Log

_LEAKED = ROW_SCHEMA.get_field_index("leaked")


def write_splits(
    settings: Settings, columns: Columns, shards: Sequence[Shard],
    selection: Selection, out: Path, log: Log,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Write rows and tokens of each split, without those that cannot train, and ``dropped.jsonl``.

    Returns:
        The counts of each split's tokens; empty where rows are not encoded.

    Raises:
        InputError: a split without a row that trains.
    """
    facts: dict[str, dict[str, Any]] = {}
    status = np.concatenate([shard.status for shard in shards])
    for name, numbers in selection.rows.items():
        kept = numbers[status[numbers] == OK]
        shutil.rmtree(out / name, ignore_errors=True)
        with ArrowWriter(out / name, ROW_SCHEMA) as file:
            for at, local in columns.by_shard(kept):
                table = shards[at].rows.table.take(pa.array(local))
                leaked = np.isin(local, columns.local[selection.leaked & (columns.shard == at)])
                file.write(table.set_column(_LEAKED, "leaked", pa.array(leaked)))
        if shards[0].encoder is None:
            continue
        tokens = _write_tokens(columns, shards, kept, out / "tokens" / name)
        facts[name] = {
            **tokens.measure(shards[0].encoder["unknown_id"]),
            **_count_left_out(columns, shards, numbers, status),
            "cut_texts": tokens.count_cut(),
        }
        _refuse_empty(settings, name, facts[name], lambda: _first_row(columns, shards, numbers))  # noqa: B023
        warn_of(facts[name], name, settings.section.max_length, log)
    if facts:
        facts.setdefault("test", facts["validation"])
    write_splits_index(out, list(selection.rows))
    with (out / "dropped.jsonl").open("w", encoding="utf-8") as file:
        for shard in shards:
            file.writelines(shard.dropped())
        for step in selection.left_out:
            file.writelines(one.line() for one in _describe_left_out(step, columns, shards))
    return facts


def _describe_left_out(
    step: LeftOutRows, columns: Columns, shards: Sequence[Shard]
) -> Iterator[Dropped]:
    """Yield the rows that a step over all rows left out, with what each equals or resembles."""
    for start in range(0, len(step.rows), SHARD_RECORDS):
        numbers, others = (some[start : start + SHARD_RECORDS] for some in (step.rows, step.others))
        known = np.unique(others[others >= 0])
        places = dict(zip(known.tolist(), read_rows(known, columns, shards), strict=True))
        rows = read_rows(numbers, columns, shards)
        for row, other in zip(rows, others.tolist(), strict=True):
            reason = f"{step.reason} {places[other].where}" if other >= 0 else step.reason
            yield Dropped(row.where, step.step, reason, row=describe(row))


def _write_tokens(
    columns: Columns, shards: Sequence[Shard], kept: np.ndarray, folder: Path
) -> TokenTable:
    shutil.rmtree(folder, ignore_errors=True)
    done = 0
    with ArrowWriter(folder, TOKEN_SCHEMA) as file:
        for at, local in columns.by_shard(kept):
            file.write(_take_tokens(shards[at], local, done))
            done += len(local)
    return TokenTable.open(folder)


def _first_row(columns: Columns, shards: Sequence[Shard], numbers: np.ndarray) -> Row:
    shard = shards[columns.shard[numbers[0]]]
    return RowTable(shard.rows)[int(columns.local[numbers[0]])]


def _take_tokens(shard: Shard, rows: np.ndarray, first: int) -> pa.Table:
    """Return the tokens of a shard's rows, numbered from ``first`` on."""
    tokens = shard.tokens
    owner = tokens.numbers("row")
    starts = np.searchsorted(owner, rows, side="left")
    counts = np.searchsorted(owner, rows, side="right") - starts
    numbers = np.repeat(np.arange(first, first + len(rows)), counts)
    taken = tokens.table.take(pa.array(expand_ranges(starts, counts)))
    return taken.set_column(taken.schema.get_field_index("row"), "row", pa.array(numbers))


def _count_left_out(
    columns: Columns, shards: Sequence[Shard], numbers: np.ndarray, status: np.ndarray
) -> dict[str, Any]:
    """Count a split's rows that do not train, and keys that the template does not read."""
    refused: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    for at, local in columns.by_shard(numbers):
        shard = shards[at]
        refused.update(shard.refused[n] for n in local[shard.status[local] == REFUSED].tolist())
        kept = local[shard.status[local] == OK]
        for code, count in enumerate(np.bincount(shard.unread[kept]).tolist()):
            unread.update(dict.fromkeys(shard.unread_keys[code], count))
    return {
        "dropped": int((status[numbers] == EMPTY).sum()),
        "refused": dict(refused.most_common(20)),
        "keys_unused": {key: count for key, count in unread.items() if count},
    }


def _refuse_empty(
    settings: Settings, name: str, facts: dict[str, Any], first: Callable[[], Row]
) -> None:
    """Refuse a split that does not train.

    Raises:
        InputError: no row is left, a prompt fills ``max_length``, or every answer is cut off.
    """
    length = settings.section.max_length
    rows, empty = facts["rows"], facts["dropped"]
    if not rows + empty:
        raise InputError(
            f"no usable {name} row ({sum(facts['refused'].values())} skipped)",
            where=first().where,
            hint=next(iter(facts["refused"]), ""),
        )
    if name != "test" and facts["truncated"] == rows:
        raise InputError(
            f"data.max_length {length} cuts off the answer of every {name} row",
            where=first().where,
            hint=f"raise data.max_length; the first row needs {_count_needed(settings, first())} "
            "tokens",
        )
    if empty and name != "test" and settings.section.on_bad_row == "error":
        raise InputError(
            f"{empty} of {rows + empty} {name} rows would train on no token: their prompts fill "
            f"data.max_length {length}",
            where=first().where,
            hint="raise data.max_length, or set data.on_bad_row: skip",
        )


def _count_needed(settings: Settings, row: Row) -> int:
    """Return the tokens of a row without a limit."""
    encoder = settings.make_encoder()
    assert encoder is not None
    return len(replace(encoder, max_length=2**31).encode(row).ids)
