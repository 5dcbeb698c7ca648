"""A sweep's place on disk, and the run of one of its trials there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune import pipeline
from edgetune.artifact import Artifact
from edgetune.log import Log
from edgetune.recipe import Recipe
from edgetune.report import publish
from edgetune.rundir import RunDir


@dataclass(frozen=True)
class Sweep:
    """A sweep on disk.

    Attributes:
        recipe: with its own values, and the section `search`.
        origins: of its values.
        folder: ``trials/``, the ``artifacts/`` they share, ``report/``, ``best.yaml``.
        total: trials of the study.
        log: says a line a trial; what a run says is in its folder.
    """

    recipe: Recipe
    origins: Mapping[str, str]
    folder: Path
    total: int
    log: Log

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def run_dir(self, kind: str, number: int) -> RunDir:
        """Return the run directory of a trial: ``trials`` on validation rows, ``final`` on test."""
        return RunDir(self.folder / kind / f"{number:04d}", self.artifacts)


@dataclass(frozen=True)
class TrialRun:
    """A finished run of a trial: its artifacts, and the models of its report."""

    artifacts: Mapping[str, Artifact]
    models: list[dict[str, Any]]


def run_trial(recipe: Recipe, origins: Mapping[str, str], target: RunDir, log: Log) -> TrialRun:
    """Run the pipeline; the caller holds the run's lock."""
    artifacts = pipeline.execute(recipe, dict(origins), target, log)
    target.link_files(artifacts.get("export"))
    return TrialRun(artifacts, publish(recipe, artifacts, target, log)["models"])
