"""Encode all rows of a split, and refuse what cannot train before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from edgetune.data.encode import Encoded, Encoder
from edgetune.data.rows import Row
from edgetune.errors import InputError
from edgetune.log import Log

BATCH_ROWS = 512  # rendered and tokenized together


@dataclass(frozen=True)
class Prepared:
    """Rows that train, each with its tokens, and the split's ``facts``.

    ``facts`` holds ``rows``, ``tokens``, ``trained_tokens``, ``lengths`` (tokens of a row),
    ``truncated``, ``dropped``, ``unknown_tokens`` and ``unknown_answers``.
    """

    rows: list[Row]
    encoded: list[Encoded]
    facts: dict[str, Any]


def encode_rows(
    encoder: Encoder,
    rows: Sequence[Row],
    log: Log,
    name: str = "train",
    on_bad_row: Literal["error", "skip"] = "error",
) -> Prepared:
    """Encode ``rows``; those that would train on no token are an error, or skipped and counted.

    Raises:
        InputError: a row trains on no token, all answers are cut off, or the template refuses one.
    """
    encoded = _encode(encoder, rows, log, name)
    empty = [row for row, coded in zip(rows, encoded, strict=True) if not any(coded.trained[1:])]
    cut = sum(coded.truncated for coded in encoded)
    if encoded and cut == len(encoded):
        raise InputError(
            f"data.max_length {encoder.max_length} cuts off the answer of every {name} row",
            where=rows[0].where,
            hint=f"raise data.max_length; the first row needs {_needed(encoder, rows[0])} tokens",
        )
    if empty and on_bad_row == "error":
        raise InputError(
            f"{len(empty)} of {len(rows)} {name} rows would train on no token: their prompts fill "
            f"data.max_length {encoder.max_length}",
            where=empty[0].where,
            hint="raise data.max_length, or set data.on_bad_row: skip",
        )
    pairs = [(row, one) for row, one in zip(rows, encoded, strict=True) if any(one.trained[1:])]
    kept_rows, kept = [row for row, _ in pairs], [one for _, one in pairs]
    facts = {**measure(encoder, kept), "dropped": len(empty)}
    _warn(facts, name, encoder, log)
    return Prepared(kept_rows, kept, facts)


def _encode(encoder: Encoder, rows: Sequence[Row], log: Log, name: str) -> list[Encoded]:
    """Encode rows in batches, under a bar where there are many."""
    encoded: list[Encoded] = []
    many = len(rows) > BATCH_ROWS
    with log.progress(f"encode {name}", len(rows)) if many else nullcontext() as bar:
        for start in range(0, len(rows), BATCH_ROWS):
            for found in encoder.encode_many(rows[start : start + BATCH_ROWS]):
                if isinstance(found, InputError):
                    raise found
                encoded.append(found)
            if bar is not None:
                bar.update(len(encoded) - bar.done)
    return encoded


def measure(encoder: Encoder, encoded: Sequence[Encoded]) -> dict[str, Any]:
    """Count tokens, trained tokens, truncated rows, and what the vocabulary cannot say."""
    lengths = sorted(len(one.ids) for one in encoded)
    unknown = unknown_id(encoder)
    return {
        "rows": len(encoded),
        "tokens": sum(lengths),
        "trained_tokens": sum(sum(one.trained) for one in encoded),
        "lengths": {
            "min": lengths[0] if lengths else 0,
            "p50": quantile(lengths, 0.5),
            "p95": quantile(lengths, 0.95),
            "max": lengths[-1] if lengths else 0,
        },
        "truncated": sum(one.truncated for one in encoded),
        "unknown_tokens": sum(one.ids.count(unknown) for one in encoded),
        "unknown_answers": sum(
            any(id == unknown and trained for id, trained in zip(one.ids, one.trained, strict=True))
            for one in encoded
            if unknown in one.ids
        ),
    }


def unknown_id(encoder: Encoder) -> int | None:
    """Return the id that stands for what the vocabulary cannot say.

    ``None`` where there is none; GPT-2 names its end of text so, and can say every byte.
    """
    tokenizer = encoder.tokenizer
    names_other = tokenizer.unk_token_id in (*encoder.stop_ids, tokenizer.bos_token_id)
    return None if names_other else tokenizer.unk_token_id


def quantile(ordered: Sequence[int], share: float) -> int:
    """Return the value that ``share`` of the ordered values do not exceed (nearest rank)."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0


def _needed(encoder: Encoder, row: Row) -> int:
    """The first row's length without a limit."""
    return len(replace(encoder, max_length=2**31).encode(row).ids)


def _warn(facts: dict[str, Any], name: str, encoder: Encoder, log: Log) -> None:
    rows = facts["rows"]
    if facts["dropped"]:
        log.warn(f"{name}: {facts['dropped']} rows dropped, their prompts fill data.max_length")
    if facts["truncated"]:
        log.warn(
            f"{name}: {facts['truncated']} of {rows} answers cut off at data.max_length "
            f"{encoder.max_length}; they do not teach the end token"
        )
    if facts["unknown_answers"]:
        log.warn(
            f"{name}: {facts['unknown_answers']} of {rows} answers hold characters that the "
            "vocabulary cannot say; the model can never give them exactly"
        )
    elif facts["unknown_tokens"]:
        log.warn(
            f"{name}: {facts['unknown_tokens']} tokens of prompts stand for unknown characters"
        )
