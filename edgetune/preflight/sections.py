"""Sections of a recipe that its stages need, or cannot work with."""

from __future__ import annotations

from edgetune.errors import InputError
from edgetune.quantize.methods import check_method
from edgetune.quantize.search.budget import parse_budget
from edgetune.recipe import Recipe

# A stage needs at least one of these, when it is in the recipe.
_NEEDS = {
    "distill": ("tune",),
    "merge": ("tune", "distill"),
    "quantize": ("merge",),
    "export": ("quantize",),
}


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe whose stages lack what they need, or are asked for what they cannot do.

    Raises:
        InputError: names the missing section, or the key.
    """
    if recipe.data is None:
        raise InputError("no data to work with", where="recipe", hint="add a 'data' section")
    over_file = recipe.base_file is not None
    if over_file:
        _check_over_file(recipe)
    for name, needs in _NEEDS.items():
        if name == "export" and over_file:
            continue  # the file is there, and the adapter goes over it
        if name == "distill" and recipe.distill and recipe.distill.teacher:
            continue
        if getattr(recipe, name) is not None and not any(getattr(recipe, n) for n in needs):
            wanted = " or ".join(f"'{need}'" for need in needs)
            raise InputError(
                f"the stage '{name}' needs the stage {wanted}",
                where="recipe",
                hint=f"add a section {wanted}; an empty one, `{needs[0]}: {{}}`, has all defaults",
            )
    _check_reward(recipe)
    if recipe.export is not None and recipe.export.adapter:
        _check_adapter(recipe)
    if recipe.quantize is not None:  # what it cannot do is no news for after the tuning
        section = recipe.quantize
        budgets = [parse_budget(text) for text in section.budget]
        check_method(section.method, section.types, budgets)


def _check_over_file(recipe: Recipe) -> None:
    """Refuse what would make another model of an adapter that is right over one file alone."""
    for name in ("distill", "merge", "quantize"):
        if getattr(recipe, name) is not None:
            raise InputError(
                f"the adapter is trained over {recipe.base_file} and ships over that very file: "
                f"the stage '{name}' has nothing to work on",
                where=name,
                hint="leave out the sections distill, merge and quantize (export writes the "
                "adapter for llama.cpp), or tune without tune.base",
            )


def _check_reward(recipe: Recipe) -> None:
    """Refuse to ship a reward model, which scores answers and writes none."""
    if not recipe.steps or recipe.tuned is not None:
        return
    taught = recipe.distill is not None and recipe.distill.teacher is not None
    ships = ("distill", "merge", "quantize", "export")
    for name in ships:
        if getattr(recipe, name) is not None and not taught:
            raise InputError(
                f"the tuning gives a reward model, which scores answers and writes none: {name} "
                "has nothing to work on",
                where=name,
                hint="leave this section out, or add a step that gives a language model: sft, dpo",
            )


def _check_adapter(recipe: Recipe) -> None:
    """Refuse to ship an adapter that there will not be, or not of what is shipped."""
    if recipe.distill is not None:
        fault = "the student is shipped, not the tuned base"
    elif recipe.tuned is None or recipe.tuned.method == "full":
        fault = "nothing trains one: tune.method is full" if recipe.tuned else "nothing is tuned"
    else:
        return
    raise InputError(
        f"there is no adapter to export: {fault}",
        where="export.adapter",
        hint="set it to false, or tune with qlora or lora and leave the distill section out",
    )
