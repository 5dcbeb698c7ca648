"""When a key of a recipe is read: a condition, and what to say where it does not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Use:
    """When a key is read.

    Attributes:
        holds: whether a recipe, which has the key's section, reads it.
        when: what would have to be set, for the message.
    """

    holds: Callable[[Any], bool]
    when: str


def one_of(section: str, key: str, *values: object) -> Use:
    """Return the use of a key that is read where another has one of some values."""
    choices = " or ".join(str(value) for value in values)
    return Use(
        lambda recipe: getattr(getattr(recipe, section), key) in values,
        f"{section}.{key}: {choices}",
    )
