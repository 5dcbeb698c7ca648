"""Does the plan fit this machine, and which settings would make it fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgetune.errors import Unsupported
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.resolve import resolve_model
from edgetune.plan import PLANNED_BYTES, make_job
from edgetune.plan.estimate import estimate_stages
from edgetune.plan.job import Estimate, Job
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


def fit_job(job: Job) -> tuple[Job, list[Change]] | None:
    """Return the job with settings that fit, changing nothing of the mathematics.

    Micro-batches are halved while gradient accumulation doubles, so that an optimizer step sees the
    same sequences; then gradient checkpointing computes activations again instead of keeping them.

    Returns:
        The job and what was changed; ``None`` where nothing of this makes it fit.
    """
    if not find_shortages(job, estimate_stages(job)):
        return job, []
    changes: dict[str, Change] = {}
    for training in _list_trainings(job):
        while _is_short(job, training.stage) and (smaller := _shrink(training.find(job.recipe))):
            section = training.find(job.recipe)
            for name, value in smaller.items():
                key = f"{training.key}.{name}"
                first = changes[key].old if key in changes else getattr(section, name)
                changes[key] = Change(key, first, value)
            job = training.change(job, section.model_copy(update=smaller))
    if find_shortages(job, estimate_stages(job)):
        return None
    return job, list(changes.values())


@dataclass(frozen=True)
class _Training:
    """A stage that trains: its name in the run, and its key in the recipe.

    ``number`` is that of a step of the tuning, where there are several.
    """

    stage: str
    key: str
    number: int | None = None

    def find(self, recipe: Recipe) -> Any:
        """Return its settings."""
        found = getattr(recipe, self.key.partition(".")[0])
        return found if self.number is None else found[self.number]

    def change(self, job: Job, section: Any) -> Job:
        """Return the job with other settings of it."""
        if self.number is None:
            return replace(job, recipe=job.recipe.model_copy(update={self.key: section}))
        steps = list(job.recipe.steps)
        steps[self.number] = section
        recipe = job.recipe.model_copy(update={"tune": tuple(steps)})
        step = replace(job.steps[self.stage], recipe=recipe.at_step(self.number))
        return replace(job, recipe=recipe, steps={**job.steps, self.stage: step})


def _list_trainings(job: Job) -> list[_Training]:
    steps = [_Training(label, f"tune.{n}", n) for n, label in enumerate(job.steps)]
    tuning = steps or ([_Training("tune", "tune")] if job.recipe.tune is not None else [])
    return [*tuning, *([_Training("distill", "distill")] if job.recipe.distill else [])]


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
        found = fit_job(make_job(recipe, folder))
    except Unsupported:  # it cannot be planned, and runs all the same
        return []
    return found[1] if found else []


def _is_short(job: Job, stage: str) -> bool:
    short = find_shortages(job, estimate_stages(job))
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
