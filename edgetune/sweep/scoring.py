"""A trial’s figures: the measurements of one of the files that it made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from edgetune.errors import InputError
from edgetune.recipe.search import MAXIMIZED, SearchSection

#: Measurements of bench that objectives are read from.
_MEASURED = {
    "score": "exact_match",
    "loss": "perplexity",
    "tpot": "tpot_ms_p50",
    "ram": "peak_rss_bytes",
}
_ROLES = ("file", "merged", "teacher", "base")


@dataclass(frozen=True)
class Evaluation:
    """A file and its figures.

    Attributes:
        name: of the file.
        measures: all that could be read, by name.
        objectives: those of the search, in its order.
        excess: by how much each constraint is broken; not positive where it holds.
    """

    name: str
    measures: dict[str, float]
    objectives: tuple[float, ...]
    excess: dict[str, float]

    @property
    def is_feasible(self) -> bool:
        return all(value <= 0 for value in self.excess.values())


def score_files(models: Sequence[dict[str, Any]], search: SearchSection) -> Evaluation:
    """Choose the file whose figures a trial has: the best that keeps the constraints.

    Without files it is the merged model, else what was tuned.

    Args:
        models: of the report.
        search: objectives, constraints, and a pattern that the file's name matches.

    Raises:
        InputError: nothing matches, or an objective was not measured.
    """
    role = next((one for one in _ROLES if any(m["role"] == one for m in models)), "")
    mine = [m for m in models if m["role"] == role and fnmatch(m["name"], search.file)]
    if not mine:
        named = ", ".join(str(model["name"]) for model in models)
        raise InputError(f"no file matches '{search.file}'", where="search.file", hint=named)
    evaluated = [_read(model, search) for model in mine]
    first = search.objectives[0]
    sign = -1 if first in MAXIMIZED else 1
    return min(
        evaluated,
        key=lambda one: (not one.is_feasible, sign * one.objectives[0], one.measures["bytes"]),
    )


def measurement_of(model: dict[str, Any], measure: str) -> dict[str, Any] | None:
    """Return the measurement of bench that a measure is read from."""
    name = _MEASURED.get(measure)
    return next((dict(one) for one in model["measurements"] if one["name"] == name), None)


def _read(model: dict[str, Any], search: SearchSection) -> Evaluation:
    measures = {"bytes": float(model["bytes"])}
    for name in _MEASURED:
        found = measurement_of(model, name)
        value = found["value"] if found else None
        if value is not None and math.isfinite(value):
            measures[name] = math.log(value) if name == "loss" else float(value)
    wanted = {*search.objectives, *search.constraints}
    if missing := wanted - measures.keys():
        name = sorted(missing)[0]
        raise InputError(
            f"bench measured no {name} of {model['name']}",
            where="search",
            hint="rows of plain text have no right answers: search for the loss"
            if name == "score"
            else "see the trial's report",
        )
    return Evaluation(
        model["name"],
        measures,
        tuple(measures[name] for name in search.objectives),
        {one.measure: one.excess(measures[one.measure]) for one in search.limits},
    )
