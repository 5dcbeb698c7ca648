"""JSON answers: parsed strictly, compared whatever the order of keys, taken apart into fields."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

#: What :func:`parse` returns of a text that is no JSON.
ABSENT: Any = object()
Field = tuple[str, str]  # a path, and its value as canonical JSON
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


def parse(text: str) -> Any:
    """Return the JSON value of a whole text, or :data:`ABSENT`; NaN and Infinity are no JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return ABSENT


def canonical(value: Any) -> str:
    """Return a value as JSON of sorted keys; 1 and 1.0 are the same, 1 and "1" and true are not."""
    return _ENCODER.encode(_whole(value))


def fields(value: Any) -> Counter[Field]:
    """Return the leaves of a value by their path: ``a.b``, ``items[].name``.

    A list's order does not count; an empty object or list is a leaf; a value that is neither has
    the path ``""``.
    """
    return Counter(_leaves(value, ""))


def _leaves(value: Any, path: str) -> Iterator[Field]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _leaves(below, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for below in value:
            yield from _leaves(below, f"{path}[]")
    else:
        yield path, canonical(value)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_whole(below) for below in value]
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
