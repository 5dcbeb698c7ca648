"""What can be seen in a finished dataset, as JSON values: the content of `edgetune data check`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.data.clean import find_pairs, sketch_texts
from edgetune.data.clean.language import find_language
from edgetune.data.clean.pii import Placeholders
from edgetune.data.dataset.splits import SPLITS, Splits
from edgetune.data.dataset.suspicious import FILE as SUSPICIOUS
from edgetune.data.dataset.tables import RowTable, TokenTable
from edgetune.data.dataset.texts import prompt_text, row_text

#: Rows of a split that labels, roles and similar pairs are looked for in, taken evenly.
SAMPLE_ROWS = 5000
LANGUAGE_ROWS = 500
_BINS = 24
_LABELS = 15
_PAIRS = 5
_EXAMPLES = 2
_EXAMPLE_GROUPS = 12
_CHARACTERS = 300
_SUSPECTS = 10


def check_dataset(folder: Path, similarity: float = 0.8) -> dict[str, Any]:
    """Return what is in a dataset that ``prepare`` wrote, without personal data of known form.

    Counts of cleaning are over all rows; labels, roles, languages and pairs are over samples, whose
    sizes are given. A dataset with a confidential source gives no text of a row.

    Args:
        folder: of the dataset.
        similarity: least Jaccard similarity of a pair.

    Returns:
        ``facts`` of the dataset; ``confidential``; ``lengths`` by split (``edges``, ``counts``);
        ``labels``, ``languages`` and ``roles`` of train; ``pairs`` (``near_duplicates`` and
        ``leaks``, the nearest first, each with both texts); ``dropped`` (examples by step);
        ``suspicious_labels`` (the first).
    """
    splits = Splits.open(folder)
    facts = dict(splits.facts)
    confidential = any(one.get("confidential") for one in facts.get("provenance", ()))
    if confidential:
        facts.pop("skipped_examples", None)
    train = _sample(splits.train, SAMPLE_ROWS)
    shown = _Texts(hidden=confidential)
    return {
        "facts": facts,
        "confidential": confidential,
        "lengths": _count_lengths(folder),
        "labels": _count_labels(train, shown),
        "languages": _count_languages(_sample(splits.train, LANGUAGE_ROWS)),
        "roles": _count_roles(train),
        "pairs": _list_pairs(splits, train, similarity, shown),
        "dropped": _list_dropped(folder / "dropped.jsonl", shown),
        "suspicious_labels": _list_suspicious(folder / SUSPICIOUS, shown),
    }


class _Texts:
    """Writes texts of rows: short, with placeholders for personal data, or not at all."""

    def __init__(self, hidden: bool) -> None:
        self.hidden = hidden

    def show(self, text: str) -> str | None:
        """Return the beginning of a text; ``None`` where none may be shown."""
        if self.hidden:
            return None
        # Values are looked for beyond the cut, which could leave half of one.
        start = text[: 4 * _CHARACTERS]
        plain = Placeholders.of(start).replace(start)
        return plain if len(plain) <= _CHARACTERS else plain[:_CHARACTERS] + " …"


def _sample(rows: RowTable, most: int) -> RowTable:
    """Return at most so many rows, taken evenly."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))
    return rows.select(places)


def _count_lengths(folder: Path) -> dict[str, dict[str, list[int]]]:
    """Return the histogram of each split's lengths in tokens, over edges that all share."""
    tokens = {
        name: TokenTable.open(folder / "tokens" / name).lengths
        for name in SPLITS
        if (folder / "tokens" / name).exists()
    }
    longest = max((int(one.max()) for one in tokens.values() if len(one)), default=0)
    step = max(1, -(-(longest + 1) // _BINS))
    edges = np.arange(0, longest + step + 1, step)
    return {
        name: {"edges": edges.tolist(), "counts": np.histogram(lengths, edges)[0].tolist()}
        for name, lengths in tokens.items()
    }


def _count_labels(rows: Sequence[Any], shown: _Texts) -> dict[str, Any]:
    """Count equal answers; of plain texts there are none."""
    counts = Counter(row.answer for row in rows if row.text is None and row.is_answered)
    top = [(text, count) for text, count in counts.most_common(_LABELS) if count > 1]
    return {
        "rows": counts.total(),
        "distinct": len(counts),
        "top": [{"text": shown.show(text), "rows": count} for text, count in top],
    }


def _count_languages(rows: Sequence[Any]) -> dict[str, Any]:
    found = Counter(find_language(row_text(row)) or "short or unclear" for row in rows)
    return {"rows": found.total(), "counts": dict(found.most_common())}


def _count_roles(rows: Sequence[Any]) -> dict[str, Any]:
    """Count turns and characters of each role; plain text counts as ``text``."""
    turns: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for row in rows:
        parts = [("text", row.text)] if row.text is not None else []
        for role, content in [*parts, *((turn.role, turn.content) for turn in row.messages)]:
            turns[role] += 1
            characters[role] += len(content)
    counts = {role: {"turns": turns[role], "characters": characters[role]} for role in turns}
    return {"rows": len(rows), "counts": counts}


def _list_pairs(splits: Splits, train: RowTable, similarity: float, shown: _Texts) -> Any:
    """Return the most similar pairs of different rows within train, and of held-out with train."""
    train = train.select(np.unique(train.prompt_hashes, return_index=True)[1])
    found = {"near_duplicates": _pairs(train, None, similarity, shown), "leaks": []}
    for name in SPLITS[1:]:
        if name == "test" and not (splits.folder / "test").exists():
            continue
        held_out = _sample(getattr(splits, name), SAMPLE_ROWS)
        leaked = held_out.select(held_out.leaked)
        for one in _pairs(train, leaked, similarity, shown) if len(leaked) else []:
            found["leaks"].append({"split": name, **one})
    found["leaks"].sort(key=lambda one: -one["jaccard"])
    return found


def _pairs(
    rows: RowTable, held_out: RowTable | None, similarity: float, shown: _Texts
) -> list[dict[str, Any]]:
    """Return the nearest pairs, a held-out row first where there are some."""
    every = [*(held_out or ()), *rows]
    write = row_text if held_out is None else prompt_text
    texts = [write(row) for row in every]
    queries = None if held_out is None else np.arange(len(every)) < len(held_out)
    pairs = find_pairs(
        sketch_texts(texts), lambda numbers: [texts[at] for at in numbers], similarity, queries
    )
    order = np.argsort(-pairs.jaccard, kind="stable")[:_PAIRS]
    return [
        {
            "jaccard": round(float(pairs.jaccard[at]), 4),
            "where": [every[row].where for row in (pairs.left[at], pairs.right[at])],
            "texts": [shown.show(texts[row]) for row in (pairs.left[at], pairs.right[at])],
        }
        for at in order.tolist()
    ]


def _list_dropped(path: Path, shown: _Texts) -> list[dict[str, Any]]:
    """Return the first rows of each step that were left out or changed."""
    taken: Counter[tuple[str, str]] = Counter()
    examples = []
    for one in _read_lines(path):
        key = (one["step"], one["what"])
        if key not in taken and len(taken) >= _EXAMPLE_GROUPS:
            continue
        taken[key] += 1
        if taken[key] > _EXAMPLES:
            continue
        row = one.get("row")
        text = None if row is None else shown.show(_as_text(row))
        # A reason may quote a malformed record.
        reason = one["reason"] if not shown.hidden else ""
        examples.append({**one, "reason": reason, "row": text})
    return examples


def _list_suspicious(path: Path, shown: _Texts) -> list[dict[str, Any]]:
    """Return the most suspicious labels, with the one that the classifier gives."""
    return [
        {**one, **{key: shown.show(one[key]) for key in ("text", "label", "predicted")}}
        for one in islice(_read_lines(path), _SUSPECTS)
    ]


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def _as_text(row: Any) -> str:
    """Return what a left-out row says, or the record as it was."""
    if isinstance(row, dict) and isinstance(row.get("messages"), list):
        return "\n".join(str(turn.get("content")) for turn in row["messages"])
    if isinstance(row, dict) and isinstance(row.get("text"), str):
        return str(row["text"])
    return row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)
