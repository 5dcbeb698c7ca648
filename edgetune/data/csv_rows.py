"""CSV to records, whatever separates the fields."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from edgetune.data.records import Record, open_text
from edgetune.errors import InputError

_SEPARATORS = ",;\t|"
_SAMPLE_ROWS = 50


def read_csv(path: Path) -> Iterator[Record]:
    """Yield the records of a CSV file with a header; the separator is the one that fits it.

    Raises:
        InputError: not CSV, with the line; a column named twice.
    """
    csv.field_size_limit(2**31 - 1)
    separator, skipped = _find_separator(path)
    # newline="" keeps line ends inside quoted fields as they are.
    with open_text(path, newline="") as text:
        for _ in range(skipped):
            text.readline()
        reader = csv.DictReader(text, delimiter=separator, strict=True)
        names = list(reader.fieldnames or ())
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"the column '{twice}' is there twice", where=f"{path}:1")
        while True:
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise InputError(
                    f"not CSV: {error}", where=f"{path}:{reader.line_num + skipped}"
                ) from error
            if fields is None:
                return
            where = f"{path}:{reader.line_num + skipped}"
            if None in fields or None in fields.values():
                found = sum(v is not None for k, v in fields.items() if k is not None)
                found += len(fields.get(None) or ())
                yield Record(where, None, f"{found} fields where the header has {len(names)}")
            else:
                yield Record(where, dict(fields))


def _find_separator(path: Path) -> tuple[str, int]:
    """Return the separator and the lines before the header (``sep=;``, which Excel reads).

    It is the one that cuts the header, and most rows into as many fields as the header; of equals
    the one that cuts more.
    """
    if ".tsv" in (ending.lower() for ending in path.suffixes):
        return "\t", 0
    with open_text(path, newline="") as text:
        first = text.readline()
        if first.startswith("sep=") and len(first.strip()) == 5:
            return first.strip()[4], 1
        lines = [first, *islice(text, 4 * _SAMPLE_ROWS)]
    best = (0.0, 0, ",")
    for separator in _SEPARATORS:
        rows = []
        try:
            for row in islice(csv.reader(lines, delimiter=separator), _SAMPLE_ROWS):
                if row:
                    rows.append(len(row))
        except csv.Error:
            continue
        width = rows[0] if rows else 1
        if width > 1:
            share = sum(one == width for one in rows) / len(rows)
            best = max(best, (share, width, separator), key=lambda one: one[:2])
    return best[2], 0
