"""``edgetune report``: write a run's report again."""

from __future__ import annotations

from pathlib import Path

import click

from edgetune.cli.options import judge
from edgetune.errors import GateFailed, InputError
from edgetune.log import Log
from edgetune.recipe_file import load_recipe
from edgetune.rundir import RunDir


@click.command("report")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="End stdout with one JSON line.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing on stderr but errors.")
def command(run_path: Path, as_json: bool, quiet: bool) -> None:
    """Write the report of the run directory RUN again and print where it is."""
    run = RunDir(run_path)
    recipe, _ = load_recipe(run_path / "recipe.yaml")
    from edgetune import pipeline
    from edgetune.report import publish

    steps = pipeline.plan_run(recipe, run)
    artifacts = {step.stage.name: step.artifact for step in steps if step.artifact}
    if not artifacts:
        raise InputError("no finished stage here", where=str(run_path), hint="`edgetune run` first")
    report = publish(recipe, artifacts, run, Log(run.log_path, quiet=quiet))
    page = run_path / "report" / "report.html"
    failed = report["verdict"] != "pass"
    failure = GateFailed("a gate of this run failed", where=str(page)) if failed else None
    judge({"report": str(page), "verdict": report["verdict"]}, str(page), as_json, failure)
