"""A sweep from Python and from the command line; Optuna is imported when it begins."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import Recipe
from edgetune.recipe.load import load_recipe


def sweep(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    trials: int = 20,
    storage: str | None = None,
    study: str | None = None,
    log: Log | None = None,
) -> dict[str, Any]:
    """Search the settings that a recipe's section `search` names, and return the sweep's report.

    Args:
        recipe: a recipe, or the path of its YAML file.
        out: folder of the sweep; absent: ``runs/<name of the recipe>-sweep``.
        trials: of the study, those included that are done already.
        storage: ``postgresql://…`` or ``sqlite:///…``; absent: a file in the folder.
        study: its name; absent: the recipe's.
        log: absent: events in the folder and nothing on stderr.
    """
    found, origins = (recipe, {}) if isinstance(recipe, Recipe) else load_recipe(Path(recipe))
    folder = Path(out or default_folder(found))
    require_optuna()
    from edgetune.sweep.place import Sweep
    from edgetune.sweep.run import run_sweep

    quiet = log or Log(folder / "log.jsonl", quiet=True)
    return run_sweep(Sweep(found, origins, folder, trials, quiet), storage, study)


def default_folder(recipe: Recipe) -> Path:
    """Return where a recipe's sweep lies."""
    return Path("runs") / f"{recipe.name}-sweep"


def require_optuna() -> None:
    """Refuse a sweep without the library that chooses its trials.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise InputError("optuna is not installed", hint="pip install 'edgetune[sweep]'")
