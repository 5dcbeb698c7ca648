"""Columns of raw rows that no training reads: read again from where the rows came from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from edgetune.data.files import read_records
from edgetune.data.sources import find_sources
from edgetune.errors import InputError, nearest
from edgetune.recipe import DataSection


def read_columns(
    section: DataSection, split: str, names: Sequence[str], places: Collection[str], seed: int
) -> dict[str, dict[str, Any]]:
    """Return the named columns of rows, by the file and line that each came from.

    The split's own source is read first, then the others: validation rows may be some of train's.
    Reading ends with the last of the rows.

    Args:
        section: of the recipe.
        split: that the rows are of.
        names: of the columns; a value that is no text, number or truth value is left out.
        places: file and line of each row.
        seed: of the rows that limits choose.

    Raises:
        InputError: a source that cannot be read, or a column that no row has.
    """
    sources = find_sources(section)
    order = dict.fromkeys(part for part in (split, "validation", "train") if part in sources)
    left, found, seen = set(places), dict[str, dict[str, Any]](), dict[str, None]()
    for part in order:
        for record in read_records(sources[part], seed=seed) if left else ():
            if record.where not in left or record.value is None:
                continue
            left.discard(record.where)
            seen |= dict.fromkeys(record.value)
            values = {name: record.value.get(name) for name in names}
            found[record.where] = {
                name: value
                for name, value in values.items()
                if isinstance(value, str | int | float | bool)
            }
            if not left:
                break
    for name in names:
        if found and name not in seen:
            raise InputError(
                f"no column '{name}'{nearest(name, seen)}", where="bench.slices",
                hint=f"the rows have {', '.join(seen)}",
            )  # fmt: skip
    return found
