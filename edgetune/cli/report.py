"""``edgetune report``: write a run's report again, or compare two runs."""

from __future__ import annotations

from pathlib import Path

import click

from edgetune.artifact import Artifact
from edgetune.cli.options import judge
from edgetune.cli.report_diff import diff
from edgetune.errors import GateFailed, InputError
from edgetune.lock import hold
from edgetune.log import Log
from edgetune.recipe import Recipe
from edgetune.recipe.load import load_recipe
from edgetune.rundir import RunDir


class _Reports(click.Group):
    """A group for which ``report RUN`` is ``report write RUN``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in that is meant where none is named."""
        asks_for_help = bool(args) and args[0] in ctx.help_option_names
        if args and args[0] not in self.commands and not asks_for_help:
            args = ["write", *args]
        return super().parse_args(ctx, args)


@click.group("report", cls=_Reports)
def command() -> None:
    """Write a run's report again (`edgetune report RUN`), or compare two runs."""


command.add_command(diff)


@command.command()
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="End stdout with one JSON line.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing on stderr but errors.")
def write(run_path: Path, as_json: bool, quiet: bool) -> None:
    """Write the report of the run directory RUN again and print where it is."""
    run = RunDir(run_path)
    recipe, _ = load_recipe(run_path / "recipe.yaml")
    from edgetune.report import publish

    with hold(run.lock_path, "this run"):
        log = Log(run.log_path, quiet=quiet)
        artifacts = _find_artifacts(recipe, run, log)
        report = publish(recipe, artifacts, run, log)
    page = run_path / "report" / "report.html"
    failed = report["verdict"] != "pass"
    failure = GateFailed("a gate of this run failed", where=str(page)) if failed else None
    judge({"report": str(page), "verdict": report["verdict"]}, str(page), as_json, failure)


def _find_artifacts(recipe: Recipe, run: RunDir, log: Log) -> dict[str, Artifact]:
    """Return what the run recorded by stage; its model and data may have changed or gone since.

    Raises:
        InputError: no stage is finished, or an artifact is not as it was made.
    """
    plan = run.plan()
    if not plan:  # made before runs recorded their plan
        from edgetune import pipeline

        plan = {step.label: step.key for step in pipeline.plan_run(recipe, run)}
    artifacts = {}
    for stage, key in plan.items():
        artifact, faults = run.find(stage, key)
        if faults:
            raise InputError(
                f"{run.stage_path(stage, key).name} is not as it was made: {faults[0]}",
                where=str(run.path),
                hint="`edgetune run` keeps it aside and makes it again",
            )
        if artifact is not None:
            artifacts[stage] = artifact
    if not artifacts:
        raise InputError("no finished stage here", where=str(run.path), hint="`edgetune run` first")
    return artifacts
