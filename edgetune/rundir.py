"""A run's directory: recipe.yaml, manifest.json, log.jsonl, a folder a stage, report/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact, load_artifact, verify_artifact, write_atomic
from edgetune.errors import InputError


class RunDir:
    """One run on disk. Stage folders are named ``<stage>-<first 8 of the key>``."""

    def __init__(self, path: Path) -> None:
        self.path = path

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
        path = self.path / "manifest.json"
        if not path.exists():
            return []
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))["artifacts"]
            return list(entries)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                "the manifest cannot be read", where=str(path), hint="delete it to rebuild it"
            ) from error

    def record(self, artifact: Artifact) -> None:
        """Add an artifact to the manifest, once."""
        entries = [e for e in self.manifest() if e.get("key") != artifact.key]
        text = json.dumps({"artifacts": [*entries, artifact.entry()]}, indent=1, ensure_ascii=False)
        write_atomic(self.path / "manifest.json", text)

    def find(self, stage: str, key: str) -> tuple[Artifact | None, list[str]]:
        """Return the finished artifact, or none and what is wrong with the one that lies there.

        A killed process can stop between the rename and the manifest: the folder is complete
        then, and is recorded here.
        """
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
        if not any(entry.get("key") == key for entry in self.manifest()):
            self.record(artifact)
        return artifact, []
