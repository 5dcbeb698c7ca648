"""The run: the stages of a recipe walked in order; what is finished and whole is skipped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetune.artifact import (
    ENTRY,
    Artifact,
    commit_part,
    finish_commit,
    load_artifact,
    make_key,
    open_part,
    put_aside,
    verify_artifact,
)
from edgetune.disk import check_place, write_atomic
from edgetune.errors import InputError, raise_machine_fault
from edgetune.facts import to_json
from edgetune.libraries import library_keys
from edgetune.lock import hold
from edgetune.log import Log
from edgetune.measure.usage import UsageMeter
from edgetune.models.hardware import refuse_several_devices
from edgetune.plan import tell_plan
from edgetune.preflight import REPORT, check_devices, check_run
from edgetune.preflight.sections import check_recipe
from edgetune.recipe import Recipe, Sections
from edgetune.recipe.load import dump_recipe
from edgetune.rundir import RunDir
from edgetune.source_hashes import find_sources, sources_of
from edgetune.stage_list import STAGES, Listed, Stage, list_stages

if TYPE_CHECKING:
    from edgetune.plan.job import Estimate


@dataclass(frozen=True)
class Planned:
    """A stage of this recipe with its key; ``artifact`` is there when it is done already."""

    listed: Listed
    key: str
    parents: dict[str, str]
    artifact: Artifact | None
    faults: list[str]

    @property
    def stage(self) -> Stage:
        return self.listed.stage

    @property
    def label(self) -> str:
        """What the stage is called in this run."""
        return self.listed.label


def plan_run(recipe: Recipe, run: RunDir) -> list[Planned]:
    """Return the recipe's stages in order, with keys and what is done already."""
    check_recipe(recipe)
    keys: dict[str, str] = {}
    planned = []
    sources: dict[int, dict[str, str]] = {}
    for listed in list_stages(recipe):
        stage, seen = listed.stage, listed.recipe
        if id(seen) not in sources:
            sources[id(seen)] = find_sources(seen)
        parents = {name: keys[label] for name, label in listed.inputs.items()}
        used = {**parents, **_sources(stage, parents, sources[id(seen)])}
        key = _key_of(stage, Sections(seen, stage.sections), used)
        keys[listed.label] = key
        artifact, faults = run.find(listed.label, key)
        planned.append(Planned(listed, key, used, artifact, faults))
    return planned


@dataclass(frozen=True)
class Work:
    """A stage that is to run: its sections and inputs, and the folder of what it makes."""

    step: Planned
    sections: Sections
    inputs: dict[str, Artifact]
    final: Path


def execute(
    recipe: Recipe, origins: dict[str, str], run: RunDir, log: Log, ignore_plan: bool = False
) -> dict[str, Artifact]:
    """Run what is not done and return every artifact by stage. The caller holds the run's lock.

    An artifact that was changed since it was made is kept aside, and made again.

    Raises:
        InputError: the plan of a large model does not fit this machine, unless ``ignore_plan``.
    """
    planned = plan_run(recipe, run)
    refuse_several_devices(_trains(planned), recipe.model.device)
    check_devices(recipe, [step.stage.name for step in planned if step.artifact is None])
    warnings = check_planned(recipe, planned)
    log.event("start", keys=[step.key for step in planned])
    for warning in warnings:
        log.warn(warning)
    left = [step.label for step in planned if step.artifact is None]
    estimates = tell_plan(recipe, run.path, log, left, ignore_plan) if left else {}
    write_atomic(run.path / "recipe.yaml", dump_recipe(recipe, origins))
    run.start({step.label: step.key for step in planned})
    done: dict[str, Artifact] = {}
    for step in planned:
        name, speak = step.label, log.bind(step.label, step.key)
        inputs = {parent: done[label] for parent, label in step.listed.inputs.items()}
        sections = Sections(step.listed.recipe, step.stage.sections)
        work = Work(step, sections, inputs, run.stage_path(name, step.key))
        with run.making(name, step.key, speak):
            done[name] = _find_or_make(work, run, speak, estimates.get(name))
        run.record(done[name])
    return done


def _find_or_make(work: Work, run: RunDir, log: Log, planned: Estimate | None) -> Artifact:
    """Return a stage's artifact; who waited for another to make it finds it made."""
    step, final = work.step, work.final
    found, faults = step.artifact or finish_commit(final, step.key), list[str]()
    if found is None:
        found, faults = run.find(step.label, step.key)
    if found is not None:
        log.say(f"done already ({final.name})")
        return found
    if faults:
        aside = put_aside(final)
        told = f"{final.name} is not as it was made ({faults[0]})"
        log.warn(f"{told}: kept as {aside.name}, and made again")
    return _make_measured(work, log, planned)


def check_planned(recipe: Recipe, planned: list[Planned]) -> list[str]:
    """Refuse what can be known to fail before any of the stages that are still to run works.

    Returns:
        What is to be warned of.

    Raises:
        EdgetuneError: as :func:`edgetune.preflight.check_run`.
    """
    names = [step.stage.name for step in planned if step.artifact is None]
    return check_run(recipe, (*names, REPORT))


def _trains(planned: list[Planned]) -> bool:
    """Whether a stage that trains is still to run."""
    return any(
        s.stage.name in ("tune", "control", "distill") and s.artifact is None for s in planned
    )


def run_alone(
    name: str, recipe: Recipe, inputs: dict[str, Artifact], out: Path, log: Log, fresh: bool = False
) -> Artifact:
    """Run one stage into ``out``, on inputs from anywhere.

    An interrupted call goes on from ``out``'s ``.part`` directory, unless ``fresh``.

    Raises:
        InputError: ``out`` holds a finished artifact of other inputs, a damaged one, or another
            process works on it.
    """
    check_place(out)
    with hold(out.with_name(out.name + ".lock"), str(out)):
        return _run_alone(name, recipe, inputs, out, log, fresh)


def _run_alone(
    name: str, recipe: Recipe, inputs: dict[str, Artifact], out: Path, log: Log, fresh: bool
) -> Artifact:
    stage = next(stage for stage in STAGES if stage.name == name)
    if name == "tune":
        recipe = _only_step(recipe)
    sections = Sections(recipe, stage.sections)
    parents = {parent: artifact.key for parent, artifact in inputs.items()}
    parents |= _sources(stage, parents, find_sources(recipe))
    key = _key_of(stage, sections, parents)
    part = out.with_name(out.name + ".part")
    if fresh and part.exists():
        shutil.rmtree(part)
    found = finish_commit(out, key) or _find_done(out, key)
    if found is not None:
        log.say(f"done already ({out})")
        return found
    refuse_several_devices(name in ("tune", "distill"), recipe.model.device)
    check_devices(recipe, [name])
    for warning in check_run(recipe, (name,)):
        log.warn(warning)
    part = open_part(out, key)
    facts = _make(stage, sections, inputs, part, log.bind(name))
    return commit_part(out, stage.kind, name, key, parents, facts)


def _only_step(recipe: Recipe) -> Recipe:
    """Return the recipe of a tuning of one step.

    Raises:
        InputError: it has several.
    """
    if len(recipe.steps) > 1:
        names = ", ".join(str(step.name) for step in recipe.steps)
        raise InputError(
            f"`tune` alone makes one step, and the recipe has {len(recipe.steps)} ({names})",
            where="tune",
            hint="`edgetune run` makes all of them",
        )
    return recipe.at_step(0)


def _find_done(out: Path, key: str) -> Artifact | None:
    """Return what an equal call made in ``out``, or none where nothing lies.

    Raises:
        InputError: something else lies there, or it was changed.
    """
    if not out.exists():
        return None
    if not (out / ENTRY).exists() or load_artifact(out).key != key:
        raise InputError(
            "this folder exists and is not overwritten", where=str(out), hint="name another --out"
        )
    artifact = load_artifact(out)
    if faults := verify_artifact(artifact):
        raise InputError(
            f"this was made by the same command and changed since: {faults[0]}",
            where=str(out),
            hint="move it away, and the same command makes it again",
        )
    return artifact


def _make_measured(work: Work, log: Log, planned: Estimate | None) -> Artifact:
    """Run a stage, commit what it made, and keep what it took beside what was planned."""
    stage, step = work.step.stage, work.step
    resumed = work.final.with_name(work.final.name + ".part").exists()
    part = open_part(work.final, step.key)
    from edgetune.plan.comparison import StepCheck, log_usage

    listened = log.listened(StepCheck(log, planned)) if planned else log
    with UsageMeter() as meter:
        facts = _make(stage, work.sections, work.inputs, part, listened)
    log_usage(log, meter.usage, planned, resumed)
    return commit_part(work.final, stage.kind, stage.name, step.key, step.parents, facts)


def _make(
    stage: Stage, sections: Sections, inputs: dict[str, Artifact], part: Path, log: Log
) -> dict[str, Any]:
    """Run a stage; a full disk or memory is told in words."""
    try:
        facts: dict[str, Any] = to_json(stage.function(sections, inputs, part, log))
        return facts
    except (OSError, MemoryError, RuntimeError) as error:
        raise_machine_fault(error, str(part))
        raise


def _sources(
    stage: Stage, parents: Mapping[str, str], sources: Mapping[str, str]
) -> dict[str, str]:
    """Return the hashes of what a stage itself opens; rows come from ``prepare`` where it ran."""
    sections = [name for name in stage.sections if name != "data" or "prepare" not in parents]
    return sources_of(sections, sources)


def _key_of(stage: Stage, sections: Sections, parents: dict[str, str]) -> str:
    """Hash what decides an artifact: recipe, parents, sources and the code that makes it."""
    made_by = {**parents, **library_keys(stage.name)}
    return make_key(stage.name, stage.version, sections.dump(stage.left_out), made_by)
