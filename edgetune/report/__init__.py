"""The report of a run: one JSON value, and the pages made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetune.artifact import Artifact
from edgetune.log import Log
from edgetune.recipe import Recipe
from edgetune.rundir import RunDir


def publish(
    recipe: Recipe, artifacts: Mapping[str, Artifact], run: RunDir, log: Log
) -> dict[str, Any]:
    """Build the report, write it into ``report/`` of the run, show its table, and return it."""
    from edgetune.models.hardware import describe_machine
    from edgetune.report.build import build_report, write_report
    from edgetune.report.terminal import print_summary

    report = build_report(recipe, artifacts, run, describe_machine())
    write_report(report, run.path / "report")
    log.event("report", verdict=report["verdict"], headline=report["headline"]["text"])
    if not log.quiet:
        print_summary(report)
    return report
