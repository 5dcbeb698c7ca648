"""Columns that answers are to be sliced by, looked for before any work."""

from __future__ import annotations

from itertools import islice

from edgetune.data.files import read_records
from edgetune.data.sources import find_sources
from edgetune.errors import InputError, nearest
from edgetune.recipe import Recipe

FIRST_ROWS = 100


def check_slices(recipe: Recipe) -> None:
    """Refuse a column of ``bench.slices`` that the first rows do not have.

    Raises:
        InputError: names the column, and the nearest one that there is.
    """
    if recipe.bench is None or recipe.data is None or not recipe.bench.slices:
        return
    sources = find_sources(recipe.data)
    split = recipe.bench.split
    part = next(name for name in (split, "validation", "train") if name in sources)
    records = islice(read_records(sources[part]), FIRST_ROWS)
    names = list(dict.fromkeys(str(key) for record in records for key in record.value or ()))
    for name in recipe.bench.slices:
        if names and name not in names:
            raise InputError(
                f"no column '{name}'{nearest(name, names)}", where="bench.slices",
                hint=f"the rows of {part} have {', '.join(names)}",
            )  # fmt: skip
