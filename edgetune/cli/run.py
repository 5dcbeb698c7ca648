"""``edgetune run``: the main job."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from edgetune import api
from edgetune.cli.options import common_options, judge, show_plan
from edgetune.disk import check_place
from edgetune.errors import GateFailed
from edgetune.lock import hold
from edgetune.log import Log
from edgetune.recipe.load import load_recipe
from edgetune.rundir import RunDir


@click.command("run")
@click.argument("recipe_path", metavar="RECIPE", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Run directory.  [default: runs/<name of the recipe>]",
)
@click.option(
    "--resume/--fresh",
    default=True,
    show_default=True,
    help="Go on from checkpoints of an interrupted run, or begin its unfinished stages again.",
)
@click.option(
    "--ignore-plan",
    is_flag=True,
    help="Run although the plan says that memory or disk is short.",
)
def command(
    recipe_path: Path,
    out: Path | None,
    resume: bool,
    ignore_plan: bool,
    overrides: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run every stage of RECIPE that is not done yet, and write the report.

    Finished stages are verified and skipped; an interrupted run goes on from its last checkpoint.
    Ends with exit code 3 when a gate of the recipe or of a lossless file fails.
    """
    recipe, origins = load_recipe(recipe_path, overrides)
    run = RunDir(out or Path("runs") / recipe.name)
    check_place(run.path)
    from edgetune import pipeline

    if dry_run:
        lines = []
        planned = pipeline.plan_run(recipe, run)
        for warning in pipeline.check_planned(recipe, planned):
            Log(None, quiet=quiet).warn(warning)
        for step in planned:
            state = "done" if step.artifact else "to run"
            if step.faults:
                state = f"to run again, {step.faults[0]}; what lies there is kept aside"
            lines.append(f"{step.label}: {state} ({run.stage_path(step.label, step.key)})")
        show_plan(recipe, origins, lines, as_json)
        return
    with hold(run.lock_path, "this run"):
        if not resume:
            for part in run.path.glob("*.part"):
                shutil.rmtree(part)
        log = Log(run.log_path, quiet=quiet)
        report = api.run_recipe(recipe, origins, run, log, ignore_plan).report
    if run.files_path.exists():
        log.say(f"files: {run.files_path}")
    page = run.path / "report" / "report.html"
    failure = None
    if report["verdict"] != "pass":
        failed = [gate for gate in report["gates"] if not gate["ok"]]
        failure = GateFailed(
            "; ".join(f"{g['name']} is {g['value']}, the limit is {g['limit']}" for g in failed),
            where=str(page),
            hint="the report shows which file; lift the limit only if you mean it",
        )
    result = {"report": str(page), "files": str(run.files_path), "verdict": report["verdict"]}
    judge(result, str(page), as_json, failure)


for option in reversed(common_options()):
    command = option(command)
