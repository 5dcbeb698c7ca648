"""The steps of a tuning: their names, and what a step takes over from the one before."""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.recipe.adapter import AdapterSettings
from edgetune.recipe.training import TuneSection
from edgetune.train.objectives import LANGUAGE_MODEL, OBJECTIVES

#: How an adapter starts and how fast it learns may differ in each step.
_OF_A_STEP = ("init", "lora_plus_ratio")
#: What is of the adapter that a step goes on with: given once, it holds for the steps after it.
SHARED_KEYS = ("method", "base", *(n for n in AdapterSettings.model_fields if n not in _OF_A_STEP))


def name_steps(steps: Sequence[TuneSection]) -> tuple[TuneSection, ...]:
    """Return the steps with their names, and with the adapter settings of the step before.

    Raises:
        ValueError: two steps of one name, or an adapter that would have to change its shape.
    """
    named: list[TuneSection] = []
    for number, step in enumerate(steps, 1):
        name = step.name or step.objective
        if name in (other.name for other in named):
            if step.name is not None:
                raise ValueError(f"two steps of tune have the name '{name}'")
            name = f"{name}{number}"
        found = step.model_copy(update={"name": name})
        if before := last_model(named):
            found = _go_on(found, before)
        named.append(found)
    return tuple(named)


def last_model(steps: Sequence[TuneSection]) -> TuneSection | None:
    """Return the last step that gives a language model, which the next goes on from."""
    found = [s for s in steps if OBJECTIVES[s.objective].gives == LANGUAGE_MODEL]
    return found[-1] if found else None


def _go_on(step: TuneSection, before: TuneSection) -> TuneSection:
    """Return a step with the adapter settings of the one before, where it has none of its own."""
    given = step.model_fields_set
    if before.method != "full":
        if step.init != "default":
            raise ValueError(
                f"init: {step.init} is a start, and the step '{step.name}' goes on with the "
                f"adapter of '{before.name}': leave init out"
            )
        for key in SHARED_KEYS:
            ours, theirs = getattr(step, key), getattr(before, key)
            if key in given and ours != theirs:
                raise ValueError(
                    f"the step '{step.name}' goes on with the adapter of '{before.name}', whose "
                    f"{key} is {theirs}, and asks for {ours}: leave {key} out"
                )
    kept = {key: getattr(before, key) for key in SHARED_KEYS if key not in given}
    return step.model_copy(update=kept)
