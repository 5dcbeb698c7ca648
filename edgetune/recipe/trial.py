"""The recipe of one trial of a sweep: the recipe's own values with those of the searched keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from edgetune.errors import InputError, nearest
from edgetune.recipe.checks import find_unread
from edgetune.recipe.keys import walk_keys
from edgetune.recipe.load import check_tree, put_value
from edgetune.recipe.schema import Recipe
from edgetune.recipe.search import Choices, SearchSection
from edgetune.recipe.steps import SHARED_KEYS, last_model
from edgetune.recipe.training import TuneSection
from edgetune.recipe.values import section_of

#: What is the same in all trials: what is measured, and where.
FIXED = (
    "name",
    "search",
    "report",
    "bench.split",
    "bench.models",
    "bench.prompting",
    "bench.fairness",
)


def search_of(recipe: Recipe) -> SearchSection:
    """Return the recipe's section `search`.

    Raises:
        InputError: there is none, or no `bench` to measure with.
    """
    if recipe.search is None:
        raise InputError(
            "the recipe has no section 'search'",
            where="recipe",
            hint="name keys with their values: search: {tune.rank: [8, 16, 32]}",
        )
    if recipe.bench is None:
        raise InputError(
            "a sweep needs what bench measures, and the recipe has no section 'bench'",
            where="recipe",
            hint="add bench: {}",
        )
    return recipe.search


def check_search(recipe: Recipe) -> None:
    """Refuse a search over keys or values that the recipe cannot have.

    Every value of a list and both ends of a range are read as the recipe's own would be.

    Raises:
        InputError: names the key.
    """
    space = search_of(recipe).space
    for key, candidates in space.items():
        where = f"search.{key}"
        _check_key(recipe, key, where)
        ends = candidates.values if isinstance(candidates, Choices) else (
            _number(candidates.kind, candidates.low), _number(candidates.kind, candidates.high)
        )  # fmt: skip
        for value in ends:
            try:
                check_tree(_lay_over(recipe, {key: value}), "search")
            except InputError as error:
                raise InputError(error.what, where=where, hint=error.hint) from error


def trial_recipe(recipe: Recipe, values: Mapping[str, Any], split: str) -> Recipe:
    """Return the recipe of a trial: what ships is measured, and no gate is asked.

    Args:
        recipe: with its own values.
        values: by searched key; one that another makes idle (a rank where all weights are
            trained) stays what it was.
        split: rows that the models are measured on.

    Raises:
        InputError: the values do not go together.
    """
    fixed = {
        "bench.split": split, "bench.models": "shipped", "bench.prompting": None,
        "bench.fairness": None, "report": None,
    }  # fmt: skip
    return _read_with(recipe, values, fixed)


def chosen_recipe(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with the values of a trial, to be run as any other."""
    return _read_with(recipe, values, {})


def _read_with(recipe: Recipe, values: Mapping[str, Any], fixed: Mapping[str, Any]) -> Recipe:
    tree = _lay_over(recipe, {**values, **fixed})
    if "report" in fixed:
        del tree["report"]
    found = check_tree(tree, "trial")
    idle = [key for key in find_unread(found) if key in values]
    if idle:
        left = {key: value for key, value in values.items() if key not in idle}
        return _read_with(recipe, left, fixed)
    return found


def own_values(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's own values of the keys that it searches."""
    values = recipe.model_dump(mode="json")
    return {key: _value_at(values, key) for key in search_of(recipe).space}


def describe_space(recipe: Recipe) -> list[str]:
    """Return a line for each searched key: its values, and the recipe's own."""
    own = own_values(recipe)
    lines = []
    for key, one in search_of(recipe).space.items():
        values = ", ".join(str(label) for label in one.labels) if isinstance(one, Choices) else (
            f"{one.low:g} to {one.high:g}, {one.kind}"
        )  # fmt: skip
        lines.append(f"{key}: {values} (the recipe's own: {own[key]})")
    return lines


def _check_key(recipe: Recipe, key: str, where: str) -> None:
    first, *rest = key.split(".")
    if first in FIXED or key in FIXED:
        raise InputError("this key is the same in all trials", where=where)
    model: type[BaseModel] | None = Recipe
    for part in key.split("."):
        if part.isdigit():
            continue
        field = model.model_fields.get(part) if model else None
        if field is None:
            raise _unknown(key, where)
        model = section_of(field.annotation)
    if rest and getattr(recipe, first) is None:
        raise InputError(
            f"the recipe has no section '{first}'", where=where, hint=f"add {first}: {{}}"
        )


def _unknown(key: str, where: str) -> InputError:
    known = [one for one in walk_keys(Recipe) if one.partition(".")[0] not in FIXED]
    return InputError(
        f"unknown key '{key}'{nearest(key, known)}",
        where=where,
        hint="a searched key is a recipe key such as tune.rank, its values a list or a range",
    )


def _lay_over(recipe: Recipe, values: Mapping[str, Any]) -> dict[str, Any]:
    tree = recipe.model_dump(mode="json", exclude_unset=True, exclude={"search"})
    if isinstance(recipe.tune, tuple):
        tree["tune"] = [
            _without_taken_over(step, last_model(recipe.steps[:number]))
            for number, step in enumerate(recipe.steps)
        ]
    for key, value in values.items():
        put_value(tree, key, value, f"search.{key}")
    return tree


def _without_taken_over(step: TuneSection, before: TuneSection | None) -> dict[str, Any]:
    """Return a step without what it takes over from the one before, whose value may be searched."""
    same = {key for key in SHARED_KEYS if before and getattr(step, key) == getattr(before, key)}
    return step.model_dump(mode="json", exclude_unset=True, exclude=same)


def _value_at(values: Any, key: str) -> Any:
    for part in key.split("."):
        if isinstance(values, list):
            values = values[int(part)]
        else:
            values = values.get(part) if isinstance(values, dict) else None
    return values


def _number(kind: str, value: float) -> float | int:
    return int(value) if kind == "int" else value
