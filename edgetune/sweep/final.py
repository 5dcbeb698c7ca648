"""The end of a sweep: is the best trial better than the recipe's own values, beyond the noise?"""

from __future__ import annotations

from typing import Any

from edgetune.lock import hold
from edgetune.log import Log
from edgetune.measure.statistics import compare_paired
from edgetune.recipe.search import MAXIMIZED
from edgetune.recipe.trial import search_of, trial_recipe
from edgetune.sweep.place import Sweep, run_trial
from edgetune.sweep.scoring import measurement_of
from edgetune.sweep.study import Study
from edgetune.sweep.trials import Trial

KEPT = "comparison"
#: Verdicts of the comparison.
BETTER, WORSE, NOISE, SAME = "better", "worse", "within the noise", "the recipe itself"
OTHER_ROWS = "on other rows"


def compare_with_default(sweep: Sweep, study: Study, best: Trial) -> None:
    """Measure the best trial and the recipe's own values on the test rows, and keep the result.

    The rows are looked at once for a best trial; a study that goes on and finds another counts the
    looks.
    """
    kept = study.recall(KEPT)
    if kept is not None and kept["best"] == best.number:
        return
    default = study.trials()[0]
    found = {"best": best.number, "looks": (kept["looks"] if kept else 0) + 1}
    split, model = _measure(sweep, best)
    by_loss = search_of(sweep.recipe).objectives[0] == "loss"
    measure = "loss" if by_loss or not measurement_of(model, "score") else "score"
    found |= {"split": split, "measure": measure, "of_best": _value(model, measure)}
    if best.number == 0:
        found |= {"of_default": found["of_best"], "verdict": SAME}
    elif default.state == "complete":
        _, other = _measure(sweep, default)
        found |= {"of_default": _value(other, measure), **_compare(model, other, measure)}
    study.remember(KEPT, found)


def _measure(sweep: Sweep, trial: Trial) -> tuple[str, dict[str, Any]]:
    """Return the rows that a trial's file was measured on, and the file's entry."""
    recipe = trial_recipe(sweep.recipe, trial.values if trial.number else {}, "test")
    target = sweep.run_dir("final", trial.number)
    sweep.log.say(f"trial {trial.number}: measured on the test rows")
    with hold(target.lock_path, f"the test of trial {trial.number}"):
        run = run_trial(recipe, sweep.origins, target, Log(target.log_path, quiet=True))
    prepared = run.artifacts.get("prepare")
    own = prepared is None or (prepared.path / "test").exists()
    model = next(one for one in run.models if one["name"] == trial.facts["file"])
    return "test" if own else "validation", model


def _compare(best: dict[str, Any], default: dict[str, Any], measure: str) -> dict[str, Any]:
    """Return the difference, best less default, with its interval over rows."""
    first, second = (measurement_of(model, measure) or {} for model in (best, default))
    if first["rows_sha256"] != second["rows_sha256"]:  # searched keys of the data chose other rows
        return {"verdict": OTHER_ROWS}
    paired = compare_paired(first["rows"], second["rows"])
    low, high = paired.difference.ci95 or (float("-inf"), float("inf"))
    if measure not in MAXIMIZED:
        low, high = -high, -low
    return {
        "difference": paired.difference.value,
        "ci95": list(paired.difference.ci95 or ()),
        "p_value": paired.p_value,
        "n": paired.difference.n,
        "verdict": BETTER if low > 0 else WORSE if high < 0 else NOISE,
    }


def _value(model: dict[str, Any], measure: str) -> dict[str, Any]:
    found = measurement_of(model, measure)
    assert found is not None
    return {"value": found["value"], "ci95": found["ci95"], "n": found["n"], "name": found["name"]}
