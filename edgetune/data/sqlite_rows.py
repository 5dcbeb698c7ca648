"""Rows of a SQLite query to records, over a connection that cannot write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from edgetune.data.records import Record
from edgetune.errors import InputError


def read_sqlite(path: Path, query: str) -> Iterator[Record]:
    """Yield the rows of a query; its columns are their keys, and nulls are left out.

    Raises:
        InputError: no SQLite file, or a query that it refuses.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            found = file.execute(query)
            names = [column[0] for column in found.description or ()]
            if not names:
                raise InputError("the query gives no rows", where=str(path), hint="SELECT … FROM …")
            for number, values in enumerate(found, start=1):
                row = {k: v for k, v in zip(names, values, strict=True) if v is not None}
                yield Record(f"{path}: row {number}", row)
    except sqlite3.Error as error:
        raise InputError(
            f"SQLite: {error}", where=str(path), hint="check the file, and data's query"
        ) from error
