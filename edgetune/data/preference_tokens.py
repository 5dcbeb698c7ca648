"""Preferences as tokens: two answers to a prompt, or one answer with a thumb, in Arrow tables.

The encoder is that of supervised tuning, so a prompt ends where generation will begin. Only what
the prompt asks for trains: its earlier answers are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from edgetune.data.encode import Encoder
from edgetune.data.encode_rows import BATCH_ROWS, OnBadRow, quantile
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Message, Row
from edgetune.errors import InputError
from edgetune.log import Log, counted

_IDS, _MASK = pa.list_(pa.int32()), pa.list_(pa.uint8())
#: Columns of pairs: the prompt's ids; of each answer its ids, and 1 for each that trains (not those
#: of users and tools between the turns of an answer). ``row`` is the number of the row.
PAIR_SCHEMA = pa.schema(
    [("prompt_ids", _IDS), ("chosen_ids", _IDS), ("chosen_mask", _MASK), ("rejected_ids", _IDS),
     ("rejected_mask", _MASK), ("row", pa.int64())]
)  # fmt: skip
#: Columns of answers with a thumb; ``label`` is whether it is up.
THUMB_SCHEMA = pa.schema(
    [("prompt_ids", _IDS), ("completion_ids", _IDS), ("completion_mask", _MASK),
     ("label", pa.bool_()), ("row", pa.int64())]
)  # fmt: skip
_EQUAL = "both answers have the same tokens"
_NO_ROOM = "no token of an answer has room behind the prompt"


@dataclass(frozen=True)
class PreferenceTokens:
    """The rows of a split as tokens.

    Attributes:
        path: an Arrow stream of :data:`PAIR_SCHEMA` or :data:`THUMB_SCHEMA`.
        lengths: tokens of each row's longer answer with its prompt, int64 [rows].
        facts: ``rows``, ``tokens``, ``trained_tokens``, ``lengths``, ``truncated`` (a row with an
            answer that lost its end), ``dropped`` (prompts that fill ``data.max_length``),
            ``equal`` (pairs of the same tokens), ``refused`` (reason to count), and of thumbs
            ``liked``.
    """

    path: Path
    lengths: np.ndarray
    facts: dict[str, Any]

    def __len__(self) -> int:
        return len(self.lengths)


def write_pairs(
    encoder: Encoder, rows: Sequence[Row], path: Path, log: Log, name: str = "train",
    on_bad_row: OnBadRow = "error",
) -> PreferenceTokens:  # fmt: skip
    """Encode chosen and rejected answers and write them to ``path``.

    A pair of the same tokens is left out and counted: there is nothing to prefer.

    Raises:
        InputError: a row that the template refuses or whose prompt leaves no room for an answer
            (unless they are skipped), or no row is left.
    """

    def encode(batch: Sequence[Row]) -> list[Any]:
        found = encoder.encode_many([one for row in batch for one in _both(row)])
        return [
            next((one for one in pair if isinstance(one, InputError)), None) or _as_pair(*pair)  # type: ignore[arg-type]
            for pair in zip(found[::2], found[1::2], strict=True)
        ]

    return _write(encode, PAIR_SCHEMA, rows, _Place(path, name, on_bad_row), encoder, log)


def write_thumbs(
    encoder: Encoder, rows: Sequence[Row], path: Path, log: Log, name: str = "train",
    on_bad_row: OnBadRow = "error",
) -> PreferenceTokens:  # fmt: skip
    """Encode answers with a thumb and write them to ``path``.

    Raises:
        InputError: as :func:`write_pairs`; or all thumbs of the train rows point one way.
    """

    def encode(batch: Sequence[Row]) -> list[Any]:
        alone = [_asked_once(row, row.prompt, row.messages[-1:]) for row in batch]
        found = encoder.encode_many(alone)
        return [
            one if isinstance(one, InputError) else _as_thumb(one, bool(row.label))
            for row, one in zip(batch, found, strict=True)
        ]

    tokens = _write(encode, THUMB_SCHEMA, rows, _Place(path, name, on_bad_row), encoder, log)
    if name == "train":
        check_thumbs(tokens.facts["liked"], len(tokens))
    return tokens


def check_thumbs(liked: int, rows: int) -> None:
    """Refuse answers that were all liked, or all disliked.

    Raises:
        InputError: says which, and what else can be trained on them.
    """
    if 0 < liked < rows:
        return
    said, hint = "disliked", "add rows with label: true"
    if liked:
        said, hint = "liked", "add rows with label: false, or train on these by objective: sft"
    raise InputError(
        f"all {rows:,} train answers are {said}: there is nothing to tell apart",
        where="data.train", hint=hint,
    )  # fmt: skip


@dataclass(frozen=True)
class _Place:
    path: Path
    name: str
    on_bad_row: OnBadRow


@dataclass
class _Counts:
    """What is counted while a split is encoded."""

    lengths: list[int] = field(default_factory=list)
    tokens: int = 0
    trained: int = 0
    truncated: int = 0
    liked: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    first: Row | None = None  # of which nothing trains

    def add(self, one: dict[str, Any]) -> None:
        prompt = len(one["prompt_ids"])
        answers = [ids for key, ids in one.items() if key.endswith("_ids") and key != "prompt_ids"]
        self.lengths.append(prompt + max(map(len, answers)))
        self.tokens += len(answers) * prompt + sum(map(len, answers))
        self.trained += sum(int(mask.sum()) for key, mask in one.items() if key[-5:] == "_mask")
        self.truncated += one.pop("truncated")
        self.liked += bool(one.get("label"))


def _write(
    encode: Callable[[Sequence[Row]], list[Any]], schema: pa.Schema, rows: Sequence[Row],
    place: _Place, encoder: Encoder, log: Log,
) -> PreferenceTokens:  # fmt: skip
    counts = _Counts()
    place.path.parent.mkdir(parents=True, exist_ok=True)
    many = len(rows) > BATCH_ROWS
    with (
        log.progress(f"encode {place.name}", len(rows)) if many else nullcontext() as bar,
        pa.OSFile(str(place.path), "wb") as file,
        pa.ipc.new_stream(file, schema) as stream,
    ):
        for start in range(0, len(rows), BATCH_ROWS):
            batch = list(rows[start : start + BATCH_ROWS])
            kept = list(_keep(zip(batch, encode(batch), strict=True), start, place, counts, log))
            if kept:
                stream.write_table(pa.Table.from_pylist(kept, schema=schema))
            if bar is not None:
                bar.update(len(batch))
    _refuse_none(rows, place, encoder, counts)
    facts = _describe(counts, schema)
    _warn(facts, place.name, encoder.max_length, log)
    return PreferenceTokens(place.path, np.asarray(counts.lengths, np.int64), facts)


def _keep(
    found: Iterator[tuple[Row, Any]], start: int, place: _Place, counts: _Counts, log: Log
) -> Iterator[dict[str, Any]]:
    for number, (row, one) in enumerate(found, start):
        if isinstance(one, dict):
            counts.add(one)
            yield {**one, "row": number}
        elif isinstance(one, str):
            counts.left_out[one] += 1
            if one == _NO_ROOM and counts.first is None:
                counts.first = row
        elif place.on_bad_row == "error":
            hint = f"{one.hint}; data.on_bad_row: skip leaves it out".lstrip("; ")
            raise InputError(one.what, where=one.where, hint=hint) from one
        else:
            if one.what not in counts.refused:
                log.warn(f"{place.name}: rows are skipped, the first: {one}")
            counts.refused[one.what] += 1


def _refuse_none(rows: Sequence[Row], place: _Place, encoder: Encoder, counts: _Counts) -> None:
    """Refuse a split of which no row is left, or one with rows that lack room for an answer."""
    length = f"data.max_length {encoder.max_length}"
    if counts.first is not None and (place.on_bad_row == "error" or not counts.lengths):
        raise InputError(
            f"{counts.left_out[_NO_ROOM]} of {len(rows)} {place.name} rows would train on no token "
            f"of an answer: their prompts fill {length}",
            where=counts.first.where,
            hint="raise data.max_length, or set data.on_bad_row: skip",
        )
    if rows and not counts.lengths:
        reasons = counts.left_out + counts.refused
        raise InputError(
            f"no usable {place.name} row ({reasons.total()} left out)",
            where=rows[0].where,
            hint=f"the reason for most: {reasons.most_common(1)[0][0]}",
        )


def _describe(counts: _Counts, schema: pa.Schema) -> dict[str, Any]:
    ordered = sorted(counts.lengths)
    quantiles = {"min": 0.0, "p50": 0.5, "p95": 0.95, "max": 1.0}
    return {
        "rows": len(ordered),
        "tokens": counts.tokens,
        "trained_tokens": counts.trained,
        "lengths": {name: quantile(ordered, share) for name, share in quantiles.items()},
        "truncated": counts.truncated,
        "dropped": counts.left_out[_NO_ROOM],
        "equal": counts.left_out[_EQUAL],
        "refused": dict(counts.refused.most_common(20)),
        **({"liked": counts.liked} if schema is THUMB_SCHEMA else {}),
    }


def _warn(facts: dict[str, Any], name: str, max_length: int, log: Log) -> None:
    for key, reason in (("dropped", _NO_ROOM), ("equal", _EQUAL)):
        if facts[key]:
            log.warn(f"{name}: {counted(facts[key], 'row')} left out, {reason}")
    if facts["truncated"]:
        log.warn(
            f"{name}: answers of {facts['truncated']} of {facts['rows']} rows are cut off at "
            f"data.max_length {max_length}"
        )


def _both(row: Row) -> tuple[Row, Row]:
    """Return a row for each answer of a pair."""
    chosen = chosen_turns(row)
    prompt = row.messages[: len(row.messages) - len(chosen)]
    return _asked_once(row, prompt, chosen), _asked_once(row, prompt, row.rejected)


def chosen_turns(row: Row) -> tuple[Message, ...]:
    """Return the turns of a pair's chosen answer: both answers have as many turns."""
    return row.messages[len(row.messages) - len(row.rejected) :]


def _asked_once(row: Row, prompt: Sequence[Message], answer: Sequence[Message]) -> Row:
    """Return a row of which the answer alone trains."""
    read = [replace(turn, trains=False) for turn in prompt]
    return Row((*read, *answer), None, row.where, row.tools)


def _as_pair(chosen: Encoded, rejected: Encoded) -> dict[str, Any] | str:
    ids = [np.asarray(one.ids, np.int32) for one in (chosen, rejected)]
    masks = [np.asarray(one.trained, np.uint8) for one in (chosen, rejected)]
    if not all(mask.any() for mask in masks):
        return _NO_ROOM
    border = min(int(mask.argmax()) for mask in masks)
    if np.array_equal(ids[0], ids[1]):
        return _EQUAL
    return {
        "prompt_ids": ids[0][:border],
        "chosen_ids": ids[0][border:],
        "chosen_mask": masks[0][border:],
        "rejected_ids": ids[1][border:],
        "rejected_mask": masks[1][border:],
        "truncated": chosen.truncated or rejected.truncated,
    }


def _as_thumb(one: Encoded, label: bool) -> dict[str, Any] | str:
    mask = np.asarray(one.trained, np.uint8)
    if not mask.any():
        return _NO_ROOM
    ids, border = np.asarray(one.ids, np.int32), int(mask.argmax())
    return {
        "prompt_ids": ids[:border],
        "completion_ids": ids[border:],
        "completion_mask": mask[border:],
        "label": label,
        "truncated": one.truncated,
    }
