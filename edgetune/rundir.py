"""A run's directory: recipe.yaml, manifest.json, log.jsonl, a folder a stage, report/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetune import lock
from edgetune.artifact import Artifact, load_artifact, verify_artifact
from edgetune.disk import write_atomic
from edgetune.errors import InputError


class RunDir:
    """One run on disk. Stage folders are named ``<stage>-<first 8 of the key>``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lock_path(self) -> Path:
        """The file that whoever writes here holds; see :func:`edgetune.lock.hold`."""
        return self.path / lock.NAME

    @property
    def log_path(self) -> Path:
        """The run's event log, JSON lines."""
        return self.path / "log.jsonl"

    def stage_path(self, stage: str, key: str) -> Path:
        """Where the artifact of ``stage`` with ``key`` lies once it is committed."""
        return self.path / f"{stage}-{key[:8]}"

    def manifest(self) -> list[dict[str, Any]]:
        """Return the committed entries, oldest first.

        Raises:
            InputError: the manifest exists and cannot be read.
        """
        return list(self._read()["artifacts"])

    def plan(self) -> dict[str, str]:
        """Return stage and key of each artifact of the recipe that ran last, in order.

        Older artifacts, of recipes before it, lie in the manifest too. Empty for a run made before
        edgetune recorded this.
        """
        found = self._read().get("plan", {})
        return {str(stage): str(key) for stage, key in found.items()}

    def start(self, plan: Mapping[str, str]) -> None:
        """Record which artifacts the recipe that begins to run is made of, by stage."""
        if self.plan() != plan:
            self._write(self.manifest(), plan)

    def record(self, artifact: Artifact) -> None:
        """Add an artifact to the manifest, once.

        A killed process can stop between the rename and this: the folder is complete then, and
        the next run records it.
        """
        entries = self.manifest()
        if artifact.entry() not in entries:
            kept = [e for e in entries if e.get("key") != artifact.key]
            self._write([*kept, artifact.entry()], self.plan())

    def find(self, stage: str, key: str) -> tuple[Artifact | None, list[str]]:
        """Return the finished artifact, or none and what is wrong with the one that lies there."""
        path = self.stage_path(stage, key)
        if not path.is_dir():
            return None, []
        try:
            artifact = load_artifact(path)
        except InputError as error:
            return None, [str(error)]
        faults = verify_artifact(artifact)
        if faults or artifact.key != key:
            return None, faults or ["its key is another"]
        return artifact, []

    def _read(self) -> dict[str, Any]:
        path = self.path / "manifest.json"
        if not path.exists():
            return {"artifacts": []}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {"artifacts": list(found["artifacts"]), "plan": dict(found.get("plan", {}))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                "the manifest cannot be read", where=str(path), hint="delete it to rebuild it"
            ) from error

    def _write(self, entries: list[dict[str, Any]], plan: Mapping[str, str]) -> None:
        text = json.dumps({"plan": dict(plan), "artifacts": entries}, indent=1, ensure_ascii=False)
        write_atomic(self.path / "manifest.json", text)
