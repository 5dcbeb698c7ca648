"""``edgetune plan``: what a recipe will take, before it is run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgetune.recipe.load import dump_recipe, load_recipe

if TYPE_CHECKING:
    from edgetune.plan.fit import Change
    from edgetune.plan.job import Estimate, Job


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
    from edgetune.plan.fit import find_shortages, fit_job
    from edgetune.plan.text import describe_plan, refuse_plan
    from edgetune.preflight.sections import check_recipe

    check_recipe(recipe)
    job = make_job(recipe, out or Path("runs") / recipe.name)
    changes: list[Change] = []
    if fit:
        fitted = fit_job(job)
        if fitted is not None:
            job, changes = fitted
            recipe = job.recipe
    estimates = estimate_stages(job)
    shortages = find_shortages(job, estimates)
    for line in describe_plan(job, estimates):
        click.echo(line)
    for change in changes:
        click.echo(f"changed   {change.key}: {change.old} -> {change.new}")
    if fit and not shortages:
        click.echo(dump_recipe(recipe, origins), nl=False)
    if shortages:
        found = {**_as_json(job, estimates, changes), "ok": False}
        raise refuse_plan(job, shortages, tried=fit, result=found)
    if as_json:
        click.echo(json.dumps(_as_json(job, estimates, changes)))


def _as_json(job: Job, estimates: list[Estimate], changes: list[Change]) -> dict[str, Any]:
    return {
        "ok": True,
        "machine": dataclasses.asdict(job.machine),
        "shape": dataclasses.asdict(job.shape),
        "tokens": dataclasses.asdict(job.tokens),
        "stages": [dataclasses.asdict(estimate) for estimate in estimates],
        "changes": [dataclasses.asdict(change) for change in changes],
    }
