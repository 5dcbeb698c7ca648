"""Facts as JSON values and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

from edgetune.errors import InputError

Facts = TypeVar("Facts")
#: Metadata of a field that is written as ``null`` where it has no value; it may be missing too.
NULL = {"null": True}


def to_json(facts: object) -> Any:
    """Return dataclasses as JSON values, without optional fields that have no value.

    A field's key is its name, or ``metadata["name"]`` where that is a keyword.
    """
    if is_dataclass(facts) and not isinstance(facts, type):
        values = ((one, getattr(facts, one.name)) for one in fields(facts))
        return {
            one.metadata.get("name", one.name): to_json(value)
            for one, value in values
            if value is not None or one.default is not None or one.metadata.get("null")
        }
    if isinstance(facts, Mapping):
        return {name: to_json(value) for name, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [to_json(one) for one in facts]
    return facts


def from_json(kind: type[Facts], values: Mapping[str, Any]) -> Facts:
    """Return JSON values as the dataclass ``kind``; keys it does not know are ignored.

    Raises:
        InputError: a value is missing or of another type.
    """
    from pydantic import TypeAdapter  # its import is not for processes that only measure

    own = {one.metadata.get("name", one.name): one.name for one in fields(cast(Any, kind))}
    try:
        found: Facts = TypeAdapter(kind).validate_python(
            {own.get(key, key): value for key, value in values.items()}
        )
    except ValueError as error:
        raise InputError(
            f"facts of another version: {error}", hint="run the stage that wrote them again"
        ) from error
    return found
