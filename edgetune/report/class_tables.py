"""A model's own tables on the page: per class or field, the confusion matrix, confused pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgetune.report.figures import Definitions
from edgetune.report.format import NONE, percent, significant

CONFUSION = "confusion"
LARGEST = 24  # labels of a matrix that is shown whole
PAIRS = 30  # most confused, that are listed
ROWS, ANSWERS = ("rows", "in rows"), ("answers", "in answers")


@dataclass(frozen=True)
class PageTable:
    """A table as the page has it, and as its script draws it again for another model.

    Attributes:
        title: its caption.
        columns: title and metric; the first column names the row.
        rows: texts.
        n: observations behind each number; 0 where that is not known.
        heat: 0 to 1 for each cell after the first, where it is a heat map; else empty.
    """

    title: str
    columns: list[tuple[str, str]]
    rows: list[list[str]]
    n: list[list[int]]
    heat: list[list[float]]


def make_tables(model: Mapping[str, Any], definitions: Definitions) -> list[PageTable]:
    """Return a model's tables; a confusion matrix becomes pairs and a heat map."""
    found = []
    for table in model["tables"]:
        if table["name"] == CONFUSION:
            found += _confusion_tables(table)
        else:
            found.append(_plain_table(table, definitions))
    return found


def tables_json(models: Sequence[tuple[str, list[PageTable]]]) -> list[dict[str, Any]]:
    """Return every model's tables as JSON values for the page's script."""
    return [{"name": name, "tables": [asdict(one) for one in tables]} for name, tables in models]


def _plain_table(table: Mapping[str, Any], definitions: Definitions) -> PageTable:
    columns = [str(name) for name in table["columns"]]
    heads = [(_title(columns[0]), "")]
    for name in columns[1:]:
        metric = find_metric(name, definitions)
        heads.append((_title(name), metric))
    counts = _find_counts(columns)
    rows = [[str(row[0]), *(_write(value) for value in row[1:])] for row in table["rows"]]
    n = [[int(row[at] or 0) if at else 0 for at in counts] for row in table["rows"]]
    return PageTable(str(table["title"]), heads, rows, n, [])


def find_metric(column: str, definitions: Definitions) -> str:
    """Return what defines a column: the part's number of that name, or a metric; else empty."""
    name = column.lower().replace(" ", "_")
    return next((one for one in (f"part_{name}", name) if one in definitions), "")


def _find_counts(columns: Sequence[str]) -> list[int]:
    """Return for each column after the first the column that counts what is behind it; 0 of none.

    Of a precision that is the answers, of all else the rows.
    """
    names = [name.lower() for name in columns]
    rows = next((names.index(name) for name in ROWS if name in names[1:]), 0)
    answers = next((names.index(name) for name in ANSWERS if name in names[1:]), rows)
    return [answers if name in ("precision", *ANSWERS) else rows for name in names[1:]]


def _confusion_tables(table: Mapping[str, Any]) -> list[PageTable]:
    labels = [str(name) for name in table["columns"][1:]]
    names = [str(row[0]) for row in table["rows"]]
    counts = [[int(value or 0) for value in row[1:]] for row in table["rows"]]
    pairs = sorted(
        (
            (count, names[at], labels[to])
            for at, row in enumerate(counts)
            for to, count in enumerate(row)
            if count and names[at] != labels[to]
        ),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    totals = dict(zip(names, map(sum, counts), strict=True))
    found = []
    if pairs:
        rows = [
            [name, given, f"{count:,}", percent(count / totals[name])]
            for count, name, given in pairs[:PAIRS]
        ]
        heads = [("Expected", ""), ("Answered", ""), ("Rows", "confused"),
                 ("Of the expected", "confused")]  # fmt: skip
        n = [[totals[name]] * 3 for _, name, _ in pairs[:PAIRS]]
        more = f", {PAIRS} of {len(pairs):,}" if len(pairs) > PAIRS else ""
        found.append(PageTable(f"Most confused pairs{more}", heads, rows, n, []))
    kept = _kept_labels(labels, pairs)
    return [*found, _heat_map(table, names, labels, counts, kept)] if kept else found


def _kept_labels(labels: Sequence[str], pairs: Sequence[tuple[int, str, str]]) -> list[str]:
    """Return all labels, or of many those of the most confused pairs."""
    if len(labels) <= LARGEST:
        return list(labels)
    wanted: dict[str, None] = {}
    for _, name, given in pairs:
        if len(wanted) >= LARGEST // 2:
            break
        wanted |= {name: None, given: None}
    return [label for label in labels if label in wanted]


def _heat_map(
    table: Mapping[str, Any], names: Sequence[str], labels: Sequence[str],
    counts: Sequence[Sequence[int]], kept: Sequence[str],
) -> PageTable:  # fmt: skip
    places = [labels.index(label) for label in kept]
    rows, heat, totals = [], [], []
    for name, row in zip(names, counts, strict=True):
        if len(kept) < len(labels) and name not in kept:
            continue
        total = sum(row)
        rows.append([name, *(f"{row[at]:,}" if row[at] else "·" for at in places)])
        heat.append([round(row[at] / total, 3) if total else 0.0 for at in places])
        totals.append([total] * len(places))
    title = str(table["title"])
    if len(kept) < len(labels):
        title += f": {len(kept)} of {len(labels)} labels, those of the most confused pairs"
    heads = [("Expected ↓ answered →", ""), *((label, "confused") for label in kept)]
    return PageTable(title, heads, rows, totals, heat)


def _write(value: str | float | int | None) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NONE
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return percent(value) if 0 <= value <= 1 else significant(value)


def _title(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
