"""Whether the trackers that a recipe names are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from edgetune.errors import InputError
from edgetune.recipe import Recipe


def check_trackers(recipe: Recipe, stages: Sequence[str]) -> None:
    """Refuse a tracker that is not installed, before the work.

    Raises:
        InputError: says what to install.
    """
    named = [("tune", step.report_to) for step in recipe.steps if "tune" in stages]
    if recipe.distill is not None and "distill" in stages:
        named.append(("distill", recipe.distill.report_to))
    for section, trackers in named:
        for tracker in trackers:
            if importlib.util.find_spec(tracker) is None:
                raise InputError(
                    f"the tracker {tracker} is not installed",
                    where=f"{section}.report_to",
                    hint=f"pip install {tracker}",
                )
