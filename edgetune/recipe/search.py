"""The recipe's section `search`: which keys a sweep varies, and what is best."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from edgetune.errors import nearest
from edgetune.recipe.section import Section

Objective = Literal["score", "loss", "bytes", "tpot", "ram"]
#: What an objective is, for help; those that are not in ``MAXIMIZED`` are minimised.
OBJECTIVES: dict[str, str] = {
    "score": "exact match",
    "loss": "negative log likelihood of an answer token, nats",
    "bytes": "size of the file",
    "tpot": "median time per token, milliseconds",
    "ram": "peak memory of its process, bytes",
}
MAXIMIZED = ("score",)
RANGES = ("log", "uniform", "int")
_BYTES = {"": 1.0, "B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10,
          "MiB": 2.0**20, "GiB": 2.0**30}  # fmt: skip
_UNITS: dict[str, dict[str, float]] = {
    "score": {"": 1.0, "%": 0.01},
    "loss": {"": 1.0},
    "bytes": _BYTES,
    "tpot": {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3},
    "ram": _BYTES,
}
_LIMIT = re.compile(r"(<=|>=)\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z%]*)")


@dataclass(frozen=True)
class Choices:
    """A key takes one of several values."""

    values: tuple[Any, ...]

    @property
    def labels(self) -> tuple[bool | int | float | str | None, ...]:
        """The values as a storage keeps them: lists and sections as JSON."""
        return tuple(label_of(value) for value in self.values)


@dataclass(frozen=True)
class Range:
    """A key takes a number from ``low`` to ``high``; ``kind`` is one of :data:`RANGES`."""

    kind: str
    low: float
    high: float


@dataclass(frozen=True)
class Limit:
    """A constraint: a file's ``measure`` is at most (``<=``) or at least ``value``."""

    measure: str
    sign: str
    value: float

    def excess(self, found: float) -> float:
        """Return by how much a value is beyond the limit, positive where it is."""
        return found - self.value if self.sign == "<=" else self.value - found


Candidates = Choices | Range


class SearchSection(Section):
    """What `edgetune sweep` varies: keys of the recipe with their values, beside these."""

    model_config = ConfigDict(extra="allow", frozen=True)

    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = Field(
        ("score",),
        description="what is best, measured on the file that ships, on validation rows: "
        + "; ".join(f"{name}: {text}" for name, text in OBJECTIVES.items()),
    )
    constraints: dict[Objective, str] = Field(
        {}, description="limits that the best must keep, such as {bytes: <= 5 MB, tpot: <= 12 ms}"
    )
    file: str = Field("*", description="shell pattern over the names of the files that count")
    pruner: Literal["median", "hyperband", "none"] = Field(
        "median",
        description="stops a trial whose validation loss is behind the others' after as many "
        "tokens; for one objective",
    )

    @model_validator(mode="after")
    def _check(self) -> SearchSection:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError("an objective is named twice")
        if not self.space:
            raise ValueError("no key to vary: add one, such as tune.rank: [8, 16, 32]")
        assert self.limits is not None
        return self

    @property
    def space(self) -> dict[str, Candidates]:
        """The keys that are varied, with their values."""
        return {key: read_candidates(key, v) for key, v in (self.__pydantic_extra__ or {}).items()}

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The constraints, read."""
        return tuple(read_limit(name, text) for name, text in self.constraints.items())


def read_candidates(key: str, given: Any) -> Candidates:
    """Return what a key of the search may be.

    Raises:
        ValueError: not a list of values, and no range.
    """
    if isinstance(given, list | tuple):
        labels = [json.dumps(label_of(value)) for value in given]
        if len(set(labels)) < max(len(labels), 2):
            raise ValueError(f"{key} needs two values or more, each of them once")
        return Choices(tuple(given))
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ValueError(
            f"{key} needs a list of values, or one of {{log: [low, high]}}, "
            "{uniform: [low, high]} and {int: [low, high]}"
        )
    ((kind, ends),) = given.items()
    if kind not in RANGES:
        raise ValueError(f"{key}: no range '{kind}'{nearest(str(kind), RANGES)}")
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: a range is two numbers, {kind}: [low, high]") from error
    if not low < high:
        raise ValueError(f"{key}: {low:g} is not below {high:g}")
    if kind == "log" and low <= 0:
        raise ValueError(f"{key}: a log range begins above 0")
    if kind == "int" and not (low.is_integer() and high.is_integer()):
        raise ValueError(f"{key}: an int range is two whole numbers")
    return Range(kind, low, high)


def read_limit(name: str, text: str) -> Limit:
    """Return a constraint such as ``<= 5 MB``.

    Raises:
        ValueError: not a limit, or of another unit.
    """
    match = _LIMIT.fullmatch(text.strip())
    if match is None or match[3] not in _UNITS[name]:
        units = [unit for unit in _UNITS[name] if unit]
        named = f" and one of {', '.join(units)}" if units else ""
        raise ValueError(f"constraints.{name}: '{text}' is not <= or >= with a number{named}")
    return Limit(name, match[1], float(match[2]) * _UNITS[name][match[3]])


def label_of(value: Any) -> bool | int | float | str | None:
    """Return a value as a storage keeps it: plain, or as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, sort_keys=True)
