"""What a study is of: the recipe, its model and data, what is searched and what is best."""

from __future__ import annotations

from typing import Any

from edgetune.recipe import Recipe
from edgetune.recipe.search import Choices
from edgetune.recipe.trial import search_of
from edgetune.source_hashes import find_sources


def identify(recipe: Recipe) -> dict[str, Any]:
    """Return what makes a study another one: all but the ends of ranges."""
    search = search_of(recipe)
    space = {
        key: list(one.labels) if isinstance(one, Choices) else one.kind
        for key, one in search.space.items()
    }
    fixed = {name: getattr(search, name) for name in type(search).model_fields if name != "pruner"}
    return {
        "recipe": recipe.model_dump(
            mode="json", exclude={"search", "report"}, exclude_defaults=True
        ),
        "sources": find_sources(recipe),
        "search": {**fixed, **space},
    }


def first_difference(kept: Any, given: Any, at: str = "") -> str:
    """Name the first key in which two plain values differ."""
    if isinstance(kept, dict) and isinstance(given, dict):
        for key in sorted({*kept, *given}):
            if kept.get(key) != given.get(key):
                return first_difference(kept.get(key), given.get(key), f"{at}.{key}".strip("."))
    return f"{at} was {kept!r} and is {given!r}"
