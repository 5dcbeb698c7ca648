"""The keys of a recipe by their dotted names: all there are, and those that were set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

#: Keys whose value may be a section, or a list of sections, and other values.
_SPLITS = ("train", "validation", "test")
_ALSO_VALUES = (
    "report.gates",
    *(f"{section}.{split}" for section in ("data", "tune.data") for split in _SPLITS),
)


def walk_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every key that holds a value, sections of sections included."""
    for name, field in model.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is None or f"{prefix}{name}" in _ALSO_VALUES:
            yield f"{prefix}{name}"
        if inner is not None:
            yield from walk_keys(inner, f"{prefix}{name}.")


def set_keys(model: BaseModel, prefix: str) -> Iterator[str]:
    """Yield the dotted names of the keys whose values are set and differ from the default."""
    for name in model.model_fields_set & type(model).model_fields.keys():
        value, default = getattr(model, name), type(model).model_fields[name].get_default(
            call_default_factory=True
        )  # fmt: skip
        if value == default:
            continue
        if isinstance(value, BaseModel):
            yield from set_keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def prefixes(parts: list[str]) -> Iterator[str]:
    """Return the key itself, then the sections around it."""
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


def _section_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
