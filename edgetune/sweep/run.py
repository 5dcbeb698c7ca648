"""Work on a study until its trials are done: each a run of the pipeline, with shared artifacts."""

from __future__ import annotations

import shutil
import time
from typing import Any

from edgetune import pipeline
from edgetune.disk import check_place, make_folder, write_atomic
from edgetune.errors import EdgetuneError, Interrupted, MachineFault
from edgetune.lock import hold
from edgetune.log import Log, bytes_text
from edgetune.recipe import Recipe
from edgetune.recipe.load import dump_recipe
from edgetune.recipe.trial import check_search, chosen_recipe, own_values, search_of, trial_recipe
from edgetune.rundir import RunDir
from edgetune.sweep.final import compare_with_default
from edgetune.sweep.identity import identify
from edgetune.sweep.owner import beating
from edgetune.sweep.place import Sweep, run_trial
from edgetune.sweep.pruning import Behind, PruneBehind
from edgetune.sweep.report import gather_report, write_report
from edgetune.sweep.scoring import Evaluation, score_files
from edgetune.sweep.study import Study, Taken
from edgetune.sweep.trials import find_best

LOCK = "study.lock"


def run_sweep(sweep: Sweep, storage: str | None, name: str | None) -> dict[str, Any]:
    """Work on the study until all its trials are made, and return its report.

    Several processes may do so at once. What one that was killed had begun, the next that asks
    for work takes up, from its artifacts and checkpoints.

    Args:
        sweep: what to run, and where.
        storage: URL of the study's database; absent: a file in the folder.
        name: of the study; absent: the recipe's.

    Raises:
        InputError: a searched key or value is none of the recipe's, the recipe cannot run, the
            study is of another recipe, or its database is down.
    """
    check_sweep(sweep)
    check_place(sweep.folder)
    make_folder(sweep.folder)
    own = own_values(sweep.recipe)
    with hold(sweep.folder / LOCK, "this study", sweep.log.muted().say):
        search = search_of(sweep.recipe)
        study = Study(search, storage, name or sweep.recipe.name, sweep.folder, sweep.log)
        study.bind(identify(sweep.recipe))
    while True:
        with hold(sweep.folder / LOCK, "this study", sweep.log.muted().say):
            taken = study.take(sweep.total, own, sweep.recipe.seed)
        if taken is None:
            break
        _work(sweep, study, taken)
        write_report(gather_report(sweep.recipe, study), sweep.folder)
    return _finish(sweep, study)


def check_sweep(sweep: Sweep) -> list[str]:
    """Refuse a sweep that cannot run, before any work; return what is to be warned of."""
    check_search(sweep.recipe)
    default = trial_recipe(sweep.recipe, {}, "validation")
    planned = pipeline.plan_run(default, sweep.run_dir("trials", 0))
    return pipeline.check_planned(default, planned)


def _work(sweep: Sweep, study: Study, taken: Taken) -> None:
    """Run a trial and tell the study of it.

    Raises:
        EdgetuneError: the recipe's own values fail, the disk does, or a stop was asked for; what
            was done is kept.
    """
    began = time.monotonic()
    title = f"trial {taken.number}"
    sweep.log.say(f"{title}: {_describe(taken)}")
    try:
        evaluated = _run_trial(sweep, taken)
    except Behind as behind:
        _drop_unfinished(sweep.run_dir("trials", taken.number), sweep.log)
        taken.prune({"why": behind.what, "seconds": _since(began)})
        sweep.log.say(f"{title}: stopped, {behind.what}")
        return
    except (Interrupted, KeyboardInterrupt):
        taken.put_back()
        raise
    except EdgetuneError as error:
        if isinstance(error, MachineFault) and "disk" in error.what:
            taken.put_back()
            raise
        taken.fail({"why": str(error), "seconds": _since(began)})
        if taken.number == 0:  # the recipe itself: so would be the others
            raise
        sweep.log.warn(f"{title} failed: {error}")
        return
    facts = {"file": evaluated.name, "measures": evaluated.measures, "seconds": _since(began)}
    taken.complete(evaluated.objectives, evaluated.excess, facts)
    sweep.log.say(f"{title}: {_summary(evaluated)}, {facts['seconds']:.0f} s")


def _run_trial(sweep: Sweep, taken: Taken) -> Evaluation:
    recipe = trial_recipe(sweep.recipe, taken.values, "validation")
    target = sweep.run_dir("trials", taken.number)
    search = search_of(sweep.recipe)
    with hold(target.lock_path, f"trial {taken.number}"), beating(taken.beat):
        log = Log(target.log_path, quiet=True)
        if prunes(sweep.recipe):
            log = log.listened(PruneBehind(_deciding_role(sweep.recipe), taken.should_prune))
        return score_files(run_trial(recipe, sweep.origins, target, log).models, search)


def _drop_unfinished(run: RunDir, log: Log) -> None:
    """Remove the checkpoints of a training that was stopped and is not gone on with."""
    for stage, key in run.plan().items():
        with run.making(stage, key, log):
            path = run.stage_path(stage, key)
            shutil.rmtree(path.with_name(path.name + ".part"), ignore_errors=True)


def prunes(recipe: Recipe) -> bool:
    """Whether trials are stopped early: one objective, and losses that can be compared."""
    search = search_of(recipe)
    of_one_tokenizer = not any(key.startswith("model.") for key in search.space)
    return search.pruner != "none" and len(search.objectives) == 1 and of_one_tokenizer


def _deciding_role(recipe: Recipe) -> str:
    """Return the role of the first training whose loss the searched keys decide."""
    step, first = recipe.tuned, {key.partition(".")[0] for key in search_of(recipe).space}
    if step is None or not first - {"distill"}:
        return "student"
    return step.name or step.objective


def _finish(sweep: Sweep, study: Study) -> dict[str, Any]:
    """Compare the best with the default once no trial is left, and write the report."""
    trials = study.trials()[: sweep.total]
    search = search_of(sweep.recipe)
    left = [one.number for one in trials if not one.is_finished]
    if left:
        numbers = ", ".join(map(str, left))
        sweep.log.say(
            f"trials that other processes work on: {numbers}; the last one ends the sweep"
        )
    elif (best := find_best(trials, search.objectives[0])) is not None:
        recipe = chosen_recipe(sweep.recipe, best.values)
        write_atomic(sweep.folder / "best.yaml", dump_recipe(recipe, sweep.origins))
        with hold(sweep.folder / "final.lock", "the comparison", sweep.log.say):
            compare_with_default(sweep, study, best)
    report = gather_report(sweep.recipe, study)
    write_report(report, sweep.folder)
    return report


def _describe(taken: Taken) -> str:
    values = ", ".join(f"{key} {_text(value)}" for key, value in taken.values.items())
    return f"the recipe’s own values, {values}" if taken.number == 0 else values


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _summary(evaluated: Evaluation) -> str:
    shown = [f"score {evaluated.measures['score']:.1%}"] if "score" in evaluated.measures else []
    shown += [f"loss {evaluated.measures['loss']:.4f}"] if "loss" in evaluated.measures else []
    broken = [name for name, value in evaluated.excess.items() if value > 0]
    if broken:
        shown.append(f"breaks {', '.join(broken)}")
    return ", ".join([*shown, f"{evaluated.name} of {bytes_text(evaluated.measures['bytes'])}"])


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)
