"""Encode all rows of a split, and refuse what cannot train before any work is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from edgetune.data.chat_format import unread_keys
from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Row
from edgetune.errors import InputError
from edgetune.log import Log, counted

OnBadRow = Literal["error", "skip"]
BATCH_ROWS = 512  # rendered and tokenized together


@dataclass(frozen=True)
class Prepared:
    """Rows that train, each with its tokens, and the split's ``facts``.

    ``facts`` holds ``rows``, ``tokens``, ``trained_tokens``, ``lengths`` (tokens of a row),
    ``truncated``, ``dropped``, ``refused`` (reason to count), ``keys_unused``,
    ``cut_texts``, ``unknown_tokens`` and ``unknown_answers``.
    """

    rows: Sequence[Row]
    encoded: Sequence[Encoded]
    facts: dict[str, Any]


def encode_rows(
    encoder: Encoder,
    rows: Sequence[Row],
    log: Log,
    name: str = "train",
    on_bad_row: OnBadRow = "error",
) -> Prepared:
    """Encode ``rows``; what cannot train is an error, or skipped and counted.

    A plain text of more than ``max_length`` tokens becomes several rows.

    Raises:
        InputError: a row trains on no token, all answers are cut off, or the template or the
            model's embedding has no place for one.
    """
    pairs, refused = _encode(encoder, rows, log, name, on_bad_row)
    if rows and not pairs:
        raise InputError(
            f"no usable {name} row ({refused.total()} skipped)",
            where=rows[0].where,
            hint=next(iter(refused), ""),
        )
    empty = [row for row, one in pairs if not any(one.trained[1:])]
    if pairs and all(one.truncated for _, one in pairs):
        first = pairs[0][0]
        raise InputError(
            f"data.max_length {encoder.max_length} cuts off the answer of every {name} row",
            where=first.where,
            hint=f"raise data.max_length; the first row needs {_needed(encoder, first)} tokens",
        )
    if empty and on_bad_row == "error":
        raise InputError(
            f"{len(empty)} of {len(rows)} {name} rows would train on no token: their prompts fill "
            f"data.max_length {encoder.max_length}",
            where=empty[0].where,
            hint="raise data.max_length, or set data.on_bad_row: skip",
        )
    kept = [(row, one) for row, one in pairs if any(one.trained[1:])]
    pieces = Counter(id(row) for row, _ in kept)
    cut = [count for count in pieces.values() if count > 1]
    facts = {
        **measure(encoder, [one for _, one in kept]),
        "dropped": len(empty),
        "refused": dict(refused.most_common(20)),
        "keys_unused": _count_unread(encoder, [row for row, _ in kept]),
        "cut_texts": {"texts": len(cut), "pieces": sum(cut)},
    }
    warn_of(facts, name, encoder.max_length, log)
    return Prepared([row for row, _ in kept], [one for _, one in kept], facts)


def _count_unread(encoder: Encoder, rows: Sequence[Row]) -> dict[str, int]:
    """Count the rows that have a key of turns, or tools, that the chat template does not read."""
    source = str(encoder.tokenizer.chat_template)
    keys: Counter[str] = Counter()
    for row in rows:
        if not row.is_plain:
            keys.update(unread_keys(row, source))
    return dict(keys)


def usable_rows(
    encoder: Encoder, rows: Sequence[Row], log: Log, name: str, on_bad_row: OnBadRow
) -> list[Row]:
    """Return the rows that the template and the model's embedding have a place for.

    Raises:
        InputError: one has none and ``on_bad_row`` is ``error``, or all are skipped.
    """
    pairs, refused = _encode(encoder, rows, log, name, on_bad_row)
    kept = list({id(row): row for row, _ in pairs}.values())
    if rows and not kept:
        raise InputError(f"no usable {name} row", where=rows[0].where, hint=next(iter(refused), ""))
    return kept


def _encode(
    encoder: Encoder, rows: Sequence[Row], log: Log, name: str, on_bad_row: OnBadRow
) -> tuple[list[tuple[Row, Encoded]], Counter[str]]:
    """Encode rows in batches, under a bar where there are many; count the skipped by reason."""
    pairs: list[tuple[Row, Encoded]] = []
    refused: Counter[str] = Counter()
    many = len(rows) > BATCH_ROWS
    with log.progress(f"encode {name}", len(rows)) if many else nullcontext() as bar:
        for start in range(0, len(rows), BATCH_ROWS):
            batch = list(rows[start : start + BATCH_ROWS])
            for row, found in zip(batch, encoder.encode_pieces(batch), strict=True):
                if not isinstance(found, InputError):
                    pairs += [(row, one) for one in found]
                elif on_bad_row == "error":
                    hint = f"{found.hint}; data.on_bad_row: skip leaves it out".lstrip("; ")
                    raise InputError(found.what, where=found.where, hint=hint) from found
                else:
                    if found.what not in refused:
                        log.warn(f"{name}: rows are skipped, the first: {found}")
                    refused[found.what] += 1
            if bar is not None:
                bar.update(min(start + BATCH_ROWS, len(rows)) - bar.done)
    return pairs, refused


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
    """Return the id of the unknown token.

    ``None`` where there is none; GPT-2 names its end of text so, and can say every byte.
    """
    tokenizer = encoder.tokenizer
    names_other = tokenizer.unk_token_id in (*encoder.stop_ids, tokenizer.bos_token_id)
    return None if names_other else tokenizer.unk_token_id


def quantile(ordered: Sequence[int], share: float) -> int:
    """Return the quantile ``share`` of ordered values (nearest rank)."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0


def _needed(encoder: Encoder, row: Row) -> int:
    """The first row's length without a limit."""
    return len(replace(encoder, max_length=2**31).encode(row).ids)


def warn_of(facts: Mapping[str, Any], name: str, max_length: int, log: Log) -> None:
    """Warn of what a split's facts show: rows left out, cut off, or not to be said in full."""
    rows = facts["rows"]
    if facts["dropped"]:
        dropped = counted(facts["dropped"], "row")
        log.warn(f"{name}: {dropped} dropped, prompts that fill data.max_length")
    if refused := sum(facts["refused"].values()):
        rows_refused = counted(refused, "row")
        log.warn(f"{name}: {rows_refused} skipped, refused by the template or the embedding")
    if facts["keys_unused"]:
        unused = facts["keys_unused"].items()
        said = ", ".join(f"{key} ({counted(count, 'row')})" for key, count in unused)
        log.warn(f"{name}: turn keys not used, the chat template does not read them: {said}")
    if cut := facts["cut_texts"]["texts"]:
        log.say(
            f"{name}: {cut:,} texts longer than data.max_length {max_length} train in "
            f"{facts['cut_texts']['pieces']:,} pieces"
        )
    if facts["truncated"]:
        log.warn(
            f"{name}: {facts['truncated']} of {rows} answers cut off at data.max_length "
            f"{max_length}; they do not teach the end token"
        )
    if facts["unknown_answers"]:
        log.warn(
            f"{name}: {facts['unknown_answers']} of {rows} answers hold characters that the "
            "vocabulary cannot say; the model can never give them exactly"
        )
    elif facts["unknown_tokens"]:
        log.warn(f"{name}: {facts['unknown_tokens']} tokens of prompts are unknown tokens")
