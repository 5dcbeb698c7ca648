"""A run's directory: recipe.yaml, manifest.json, log.jsonl, report/, files/, stage folders."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgetune import lock
from edgetune.artifact import Artifact, load_artifact, verify_artifact
from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.log import Log


class RunDir:
    """One run on disk. Stage folders are named ``<stage>-<first 8 of the key>``.

    Args:
        path: of the run.
        shared: folder of the stages' folders where several runs share them; absent: the run's own.
    """

    def __init__(self, path: Path, shared: Path | None = None) -> None:
        self.path = path
        self._shared = shared

    @property
    def lock_path(self) -> Path:
        """The file that whoever writes here holds; see :func:`edgetune.lock.hold`."""
        return self.path / lock.NAME

    @property
    def log_path(self) -> Path:
        """The run's event log, JSON lines."""
        return self.path / "log.jsonl"

    @property
    def files_path(self) -> Path:
        """Where the files that ship are found by stable names, whatever the stages' keys are."""
        return self.path / "files"

    def stage_path(self, stage: str, key: str) -> Path:
        """Where the artifact of ``stage`` with ``key`` lies once it is committed."""
        return (self._shared or self.path) / f"{stage}-{key[:8]}"

    @contextmanager
    def making(self, stage: str, key: str, log: Log) -> Iterator[None]:
        """Hold what only one may make; runs that share their artifacts wait for one another."""
        if self._shared is None:  # the run's own lock is held
            yield
            return
        path = self.stage_path(stage, key)
        with lock.hold(path.with_name(path.name + ".lock"), path.name, log.say):
            yield

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

    def link_files(self, artifact: Artifact | None) -> None:
        """Put the files of ``export`` into ``files/``, in place of an earlier recipe's.

        Hard links, so that they take no disk and outlive a cleaning of the stages' folders; copies
        where the file system has no links. The new folder is whole before the old one goes.
        """
        stale = self.path / "files.old"
        shutil.rmtree(stale, ignore_errors=True)
        if artifact is None:
            if self.files_path.exists():
                self.files_path.rename(stale)
        else:
            fresh = self.path / "files.new"
            shutil.rmtree(fresh, ignore_errors=True)
            for name in artifact.files:
                link = fresh / name
                link.parent.mkdir(parents=True, exist_ok=True)
                _link(artifact.path / name, link)
            if self.files_path.exists():
                self.files_path.rename(stale)
            fresh.rename(self.files_path)
        shutil.rmtree(stale, ignore_errors=True)

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


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no hard links on this file system
        shutil.copyfile(source, target)
