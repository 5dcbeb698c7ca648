"""Does the plan fit this machine, and which settings would make it fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgetune.errors import Unsupported
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.resolve import resolve_model
from edgetune.plan import PLANNED_BYTES, make_job
from edgetune.plan.estimate import Estimate, Job, estimate_stages
from edgetune.plan.machine import USABLE
from edgetune.recipe import Optimization, Recipe


@dataclass(frozen=True)
class Shortage:
    """A stage that needs more than there is.

    Attributes:
        stage: its name.
        resource: ``RAM``, ``GPU memory`` or ``disk``.
        needed: bytes.
        available: bytes.
    """

    stage: str
    resource: str
    needed: int
    available: int


@dataclass(frozen=True)
class Change:
    """A setting that makes the plan smaller: ``key`` from ``old`` to ``new``."""

    key: str
    old: object
    new: object


def find_shortages(job: Job, estimates: list[Estimate]) -> list[Shortage]:
    """Return what the stages lack; disk adds up over stages, memory does not."""
    machine, found, disk = job.machine, [], 0
    for estimate in estimates:
        disk += estimate.disk_bytes
        for resource, needed, available in (
            ("RAM", estimate.ram_bytes, int(USABLE * machine.ram_bytes)),
            ("GPU memory", estimate.gpu_bytes, int(USABLE * machine.gpu_bytes)),
            ("disk", disk, machine.disk_bytes),
        ):
            if needed > available:
                found.append(Shortage(estimate.stage, resource, needed, available))
    return found


def fit_recipe(job: Job) -> tuple[Recipe, list[Change]] | None:
    """Return the recipe with settings that fit, changing nothing of the mathematics.

    Micro-batches are halved while gradient accumulation doubles, so that an optimizer step sees the
    same sequences; then gradient checkpointing computes activations again instead of keeping them.

    Returns:
        The recipe and what was changed; ``None`` where nothing of this makes it fit.
    """
    if not find_shortages(job, estimate_stages(job)):
        return job.recipe, []
    changes: dict[str, Change] = {}
    recipe = job.recipe
    for stage in ("tune", "distill"):
        while (section := getattr(recipe, stage)) is not None and _training_short(
            job, recipe, stage
        ):
            smaller = _shrink(section)
            if not smaller:
                break
            for name, value in smaller.items():
                key = f"{stage}.{name}"
                first = changes[key].old if key in changes else getattr(section, name)
                changes[key] = Change(key, first, value)
            changed = section.model_copy(update=smaller)
            recipe = recipe.model_copy(update={stage: changed})
    fitted = replace(job, recipe=recipe)
    if find_shortages(fitted, estimate_stages(fitted)):
        return None
    return recipe, list(changes.values())


def find_changes(recipe: Recipe, folder: Path) -> list[Change]:
    """Return what makes a large model's recipe fit this machine; nothing where it fits or cannot.

    Args:
        recipe: of a model below :data:`edgetune.plan.PLANNED_BYTES` nothing is planned.
        folder: where it would run.
    """
    model = resolve_model(recipe.model.path, recipe.model.revision)
    if Checkpoint(model).bytes < PLANNED_BYTES:
        return []
    try:
        found = fit_recipe(make_job(recipe, folder))
    except Unsupported:  # it cannot be planned, and runs all the same
        return []
    return found[1] if found else []


def _training_short(job: Job, recipe: Recipe, stage: str) -> bool:
    tried = replace(job, recipe=recipe)
    short = find_shortages(tried, estimate_stages(tried))
    return any(one.stage == stage and one.resource != "disk" for one in short)


def _shrink(section: Optimization) -> dict[str, object]:
    """Return the next smaller settings of a training; nothing where there are none."""
    batch, accumulation = section.batch_size, section.gradient_accumulation
    if batch > 1 and batch % 2 == 0:
        return {"batch_size": batch // 2, "gradient_accumulation": accumulation * 2}
    if not section.gradient_checkpointing:
        return {"gradient_checkpointing": True}
    if batch > 1:
        return {"batch_size": 1, "gradient_accumulation": accumulation * batch}
    return {}


def propose(job: Job) -> list[str]:
    """Return the settings that would make a training smaller and change what is trained."""
    proposals = []
    data, tune = job.recipe.data, job.recipe.tuned
    if tune is not None and tune.method == "full":
        proposals.append("tune.method: qlora (an adapter over NF4 weights)")
    elif tune is not None and tune.method == "lora":
        proposals.append("tune.method: qlora (weights in 4 bits)")
    if data is not None and data.max_length > 256:
        proposals.append(f"data.max_length: {data.max_length // 2} (now {data.max_length})")
    if tune is not None and tune.method != "full" and tune.uniform_rank > 8:
        key = "rank_budget" if tune.rank == "auto" else "rank"
        proposals.append(f"tune.{key}: {tune.uniform_rank // 2} (now {tune.uniform_rank})")
    proposals.append("a smaller model (model.path)")
    return proposals
