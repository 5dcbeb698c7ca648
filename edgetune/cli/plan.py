"""``edgetune plan``: what a recipe will take, before it is run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgetune.errors import InputError
from edgetune.log import bytes_text
from edgetune.recipe.load import dump_recipe, load_recipe

if TYPE_CHECKING:
    from edgetune.plan.estimate import Estimate, Job
    from edgetune.plan.fit import Change, Shortage


@click.command("plan")
@click.argument("recipe_path", metavar="RECIPE", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Run directory, whose disk counts.  [default: runs/<name of the recipe>]",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE",
    help="Set a recipe key; may be repeated.",
)  # fmt: skip
@click.option(
    "--fit",
    is_flag=True,
    help="Print the recipe with micro-batch, accumulation and checkpointing that fit; what is "
    "trained stays the same.",
)
@click.option("--json", "as_json", is_flag=True, help="End stdout with one JSON line.")
def command(
    recipe_path: Path, out: Path | None, overrides: tuple[str, ...], fit: bool, as_json: bool
) -> None:
    """Say what memory, disk and time each stage of RECIPE will take on this machine.

    Read off the model's configuration and a sample of the rows, in seconds; no weights are loaded.
    Ends with exit code 2 when it does not fit, with the settings that would.
    """
    recipe, origins = load_recipe(recipe_path, overrides)
    from edgetune.plan import make_job
    from edgetune.plan.estimate import estimate_stages
    from edgetune.plan.fit import find_shortages, fit_recipe

    job = make_job(recipe, out or Path("runs") / recipe.name)
    changes: list[Change] = []
    if fit:
        fitted = fit_recipe(job)
        if fitted is not None:
            recipe, changes = fitted
            job = dataclasses.replace(job, recipe=recipe)
    estimates = estimate_stages(job)
    shortages = find_shortages(job, estimates)
    _print(job, estimates)
    for change in changes:
        click.echo(f"changed   {change.key}: {change.old} -> {change.new}")
    if fit and not shortages:
        click.echo(dump_recipe(recipe, origins), nl=False)
    if shortages:
        raise _refuse(job, shortages, tried=fit)
    if as_json:
        click.echo(json.dumps(_as_json(job, estimates, changes)))


def _print(job: Job, estimates: list[Estimate]) -> None:
    machine, tokens = job.machine, job.tokens
    where = f"{bytes_text(machine.ram_bytes)} of RAM"
    if machine.gpu_bytes:
        where += f", {bytes_text(machine.gpu_bytes)} of GPU memory"
    click.echo(
        f"machine   {machine.device}, {where}, {bytes_text(machine.disk_bytes)} of disk free; "
        f"{machine.flops / 1e9:,.0f} GFLOP/s in {job.dtype}"
    )
    click.echo(
        f"model     {job.shape.total / 1e6:,.1f} M weights, {job.shape.linear / 1e6:,.1f} M in "
        f"linear layers, vocabulary {job.shape.vocabulary:,}"
    )
    click.echo(
        f"data      {tokens.rows:,} rows, {tokens.mean:.0f} tokens per row, at most "
        f"{tokens.longest} of a sample"
    )
    click.echo(f"{'stage':<10}{'RAM':>10}{'GPU':>10}{'disk':>10}{'time':>10}")
    for one in estimates:
        gpu = bytes_text(one.gpu_bytes) if one.gpu_bytes else "-"
        click.echo(
            f"{one.stage:<10}{bytes_text(one.ram_bytes):>10}{gpu:>10}"
            f"{bytes_text(one.disk_bytes):>10}{duration_text(one.seconds):>10}"
        )


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _refuse(job: Job, shortages: list[Shortage], tried: bool) -> InputError:
    from edgetune.plan.fit import fit_recipe, propose

    short = "; ".join(
        f"{one.stage} needs {bytes_text(one.needed)} of {one.resource}, "
        f"{bytes_text(one.available)} can be used"
        for one in shortages
    )
    fitted = None if tried else fit_recipe(job)
    if fitted is not None:
        settings = " ".join(f"--set {change.key}={change.new}" for change in fitted[1])
        hint = f"this fits, and trains the same: {settings} (or --fit)"
    else:
        hint = f"these would make it smaller, and change what is trained: {'; '.join(propose(job))}"
    return InputError(f"the plan does not fit: {short}", where="plan", hint=hint)


def _as_json(job: Job, estimates: list[Estimate], changes: list[Change]) -> dict[str, Any]:
    return {
        "ok": True,
        "machine": dataclasses.asdict(job.machine),
        "shape": dataclasses.asdict(job.shape),
        "tokens": dataclasses.asdict(job.tokens),
        "stages": [dataclasses.asdict(estimate) for estimate in estimates],
        "changes": [dataclasses.asdict(change) for change in changes],
    }
