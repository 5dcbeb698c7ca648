"""What a recipe will take, before it is run: memory, disk and time of each stage."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetune.errors import InputError, Unsupported
from edgetune.log import Log
from edgetune.recipe import Recipe

if TYPE_CHECKING:
    from edgetune.plan.job import Estimate

#: Of a checkpoint whose plan is told before its run: tracing takes some seconds.
PLANNED_BYTES = 200_000_000


def make_job(recipe: Recipe, folder: Path) -> Any:
    """Return what estimates are made of: configuration, tokenizer and rows are read, no weights.

    Args:
        recipe: what is planned.
        folder: where the run will lie.

    Raises:
        InputError: no model or data in the recipe, or of a kind that cannot be read.
    """
    from edgetune.models.compute_dtype import choose_dtype
    from edgetune.models.hardware import choose_device
    from edgetune.models.resolve import resolve_model
    from edgetune.models.tokenizer_files import load_tokenizer
    from edgetune.plan.job import Job, find_sampling
    from edgetune.plan.machine import measure_machine
    from edgetune.plan.shape import Tokens, measure_tokens, read_shape
    from edgetune.plan.trace import read_config, student_config
    from edgetune.train.objectives import OBJECTIVES

    if recipe.data is None and isinstance(recipe.tune, tuple):  # each step names rows of its own
        recipe = recipe.model_copy(update={"data": recipe.steps[-1].data})
    if recipe.data is None:
        raise InputError("no data to plan with", where="recipe", hint="add a 'data' section")
    base = resolve_model(recipe.model.path, recipe.model.revision)
    device = choose_device(recipe.model.device)
    dtype = choose_dtype(recipe.model.compute_dtype, device).name
    config = read_config(base)
    student, tokenizer = student_config(recipe, config), load_tokenizer(base)

    def measure(seen: Recipe) -> Tokens:
        sampling = find_sampling(seen.tuned)
        rows = OBJECTIVES[seen.tuned.objective].rows if seen.tuned else "sft"
        length = sampling.max_new_tokens if sampling else 0
        assert seen.data is not None
        return measure_tokens(seen.data, tokenizer, seen.seed, rows, length)

    several = isinstance(recipe.tune, tuple)
    job = Job(
        recipe=recipe,
        config=config,
        shape=read_shape(config),
        student=student,
        student_shape=read_shape(student),
        tokens=measure_tokens(recipe.data, tokenizer, recipe.seed) if several else measure(recipe),
        machine=measure_machine(device, dtype, folder),
        dtype=dtype,
    )
    if not several:
        return job
    seen = {label: recipe.at_step(n) for n, label in enumerate(recipe.step_labels)}
    steps = {label: replace(job, recipe=one, tokens=measure(one)) for label, one in seen.items()}
    return replace(job, steps=steps)


def tell_plan(
    recipe: Recipe, folder: Path, log: Log, stages: Collection[str], ignore: bool = False
) -> dict[str, Estimate]:
    """Say the plan of a large model before its run.

    A model below :data:`PLANNED_BYTES` fits wherever this package runs, and starts at once.

    Args:
        recipe: what is to run.
        folder: where the run lies.
        log: that it is said to.
        stages: those still to run, as they are called in the run.
        ignore: only warn of what does not fit.

    Returns:
        The estimates by stage; none of a small model, or one that cannot be planned.

    Raises:
        InputError: it does not fit, with the settings that would.
    """
    from edgetune.models.checkpoint import Checkpoint
    from edgetune.models.resolve import resolve_model

    if Checkpoint(resolve_model(recipe.model.path, recipe.model.revision)).bytes < PLANNED_BYTES:
        return {}
    from edgetune.plan.estimate import estimate_stages
    from edgetune.plan.fit import find_shortages
    from edgetune.plan.text import describe_plan, describe_shortages, refuse_plan

    try:
        job = make_job(recipe, folder)
        estimates = [one for one in estimate_stages(job) if one.stage in stages]
    except Unsupported as error:
        log.say(error.what)
        return {}
    for line in describe_plan(job, estimates):
        log.say(line)
    if short := find_shortages(job, estimates):
        if not ignore:
            raise refuse_plan(job, short)
        log.warn(f"the plan does not fit and is ignored: {describe_shortages(short)}")
    return {one.stage: one for one in estimates}
