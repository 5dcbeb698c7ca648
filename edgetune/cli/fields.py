"""Click options made from the recipe's fields: type, choices and help are the field's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from edgetune.recipe import Recipe
from edgetune.recipe.aliases import old_values
from edgetune.recipe.values import section_of

F = TypeVar("F", bound=Callable[..., Any])


def field_option(flag: str, key: str, text: str = "") -> Callable[[F], F]:
    """Return the option ``flag`` that sets the recipe key ``key``.

    Args:
        flag: such as ``--max-length``.
        key: dotted, such as ``data.max_length``.
        text: help, where the field's description is not meant for a command.
    """
    field = find_field(key)
    described = field.description or ""
    named = described.partition(" ")[0].endswith(":")  # a value: it stays as it is written
    shown = text or (described if named else described[:1].upper() + described[1:]) + "."
    return click.option(flag, type=_type_of(field.annotation, old_values(key)), help=shown)


def find_field(key: str) -> FieldInfo:
    """Return the field of a dotted recipe key."""
    model: Any = Recipe
    *parents, last = key.split(".")
    for part in parents:
        model = section_of(model.model_fields[part].annotation)
    found: FieldInfo = model.model_fields[last]
    return found


class _Choice(click.Choice[str]):
    """A choice that passes old values on, unlisted: the recipe reads them with a warning."""

    def __init__(self, choices: Sequence[str], old: Sequence[str]) -> None:
        super().__init__(choices)
        self._old = frozenset(old)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value) if value in self._old else super().convert(value, param, ctx)


def _type_of(annotation: Any, old: Sequence[str] = ()) -> Any:
    """Return the Click type of a field: a choice of its literals, a number, or text."""
    if get_origin(annotation) is Literal:
        return _Choice(get_args(annotation), old)
    if get_origin(annotation) is Annotated:
        return _type_of(get_args(annotation)[0])
    if annotation in (int, float, str):
        return annotation
    kinds = [_type_of(part) for part in get_args(annotation) if part is not type(None)]
    return kinds[0] if len(kinds) == 1 else str
