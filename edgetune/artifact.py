"""Artifacts: directories that a stage wrote whole, with hashes, parents and facts.

A stage writes into ``<name>.part/``. Committing hashes the files, writes ``artifact.json`` last,
waits for the disk and renames the directory, so a directory without the suffix is complete,
whatever was killed when and wherever the power failed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgetune.disk import make_folder, rename_whole, sync_tree, write_atomic
from edgetune.errors import InputError

ENTRY = "artifact.json"
SCRATCH = "scratch"  # inside a .part directory: checkpoints and the like, dropped at commit
MARKER = "key"  # inside a .part directory: what it is becoming


@dataclass(frozen=True)
class Artifact:
    """What a stage made.

    Attributes:
        path: the directory.
        kind: ``rows``, ``adapter``, ``student``, ``model``, ``plan``, ``files`` or
            ``measurements``.
        stage: the stage that made it.
        key: hash of everything that decides its content; see :func:`make_key`.
        files: relative path to ``{"sha256", "bytes"}``.
        parents: input name to the parent's key.
        facts: what the stage reports, as JSON values.
    """

    path: Path
    kind: str
    stage: str
    key: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def model_folder(self) -> Path:
        """The Hugging Face folder in an artifact of kind ``model``."""
        return self.path / str(self.facts.get("folder", "model"))

    @property
    def contract_folder(self) -> Path:
        """Where tokenizer, chat template and golden prompts lie."""
        if self.kind == "model":
            return self.model_folder
        return self.path / str(self.facts.get("contract", "contract"))

    def entry(self) -> dict[str, Any]:
        """Return the JSON form, with the directory's name in place of its path."""
        return {**asdict(self), "path": self.path.name}


def make_key(stage: str, version: int, sections: dict[str, Any], parents: dict[str, str]) -> str:
    """Hash what decides an artifact: stage, its version, recipe sections (with seed), parents."""
    text = json.dumps([stage, version, sections, parents], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def open_part(final: Path, key: str) -> Path:
    """Return ``final``'s ``.part`` directory, as an interrupted run left it or fresh."""
    part = final.with_name(final.name + ".part")
    marker = part / MARKER
    if part.exists() and (not marker.is_file() or marker.read_text() != key):
        shutil.rmtree(part)
    make_folder(part)
    write_atomic(marker, key)
    return part


def commit_part(
    final: Path, kind: str, stage: str, key: str, parents: dict[str, str], facts: dict[str, Any]
) -> Artifact:
    """Hash the ``.part`` directory's files, write its entry, and rename it to ``final``.

    Raises:
        InputError: ``final`` exists already; a finished artifact is never overwritten.
    """
    part = final.with_name(final.name + ".part")
    if final.exists():
        raise InputError(
            "this artifact exists already", where=str(final), hint="name another --out"
        )
    (part / ENTRY).unlink(missing_ok=True)
    files = {
        path.relative_to(part).as_posix(): {"sha256": hash_file(path), "bytes": path.stat().st_size}
        for path in sorted(part.rglob("*"))
        if path.is_file() and _is_kept(path.relative_to(part))
    }
    facts = json.loads(json.dumps(facts, default=str))
    artifact = Artifact(final, kind, stage, key, files, parents, facts)
    write_atomic(part / ENTRY, json.dumps(artifact.entry(), indent=1, ensure_ascii=False))
    _finish(part, final)
    return artifact


def finish_commit(final: Path, key: str) -> Artifact | None:
    """Finish a commit that was cut short after its entry was written; none if there is none."""
    part = final.with_name(final.name + ".part")
    if final.exists() or not (part / ENTRY).is_file():
        return None
    try:
        artifact = load_artifact(part)
    except InputError:
        return None
    if artifact.key != key or verify_artifact(artifact):
        return None
    _finish(part, final)
    return replace(artifact, path=final)


def _is_kept(path: Path) -> bool:
    return path.parts[0] not in (SCRATCH, MARKER) and path.name != f"{ENTRY}.tmp"


def _finish(part: Path, final: Path) -> None:
    """Drop what only the work needed, once all else is on the disk, and rename."""
    _open_to_readers(part)
    sync_tree(part)
    shutil.rmtree(part / SCRATCH, ignore_errors=True)
    (part / MARKER).unlink(missing_ok=True)
    rename_whole(part, final)


def put_aside(folder: Path) -> Path:
    """Rename a folder that is not what it should be, and return its new name: nothing is lost."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    rename_whole(folder, aside)
    return aside


def _open_to_readers(folder: Path) -> None:
    """Give every file below ``folder`` the mode of a new one, which the umask decides.

    Some libraries (safetensors, onnx) write theirs 0600: no web server, container or colleague of
    another user could read them.
    """
    usual = stat.S_IMODE((folder / ENTRY).stat().st_mode)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode | usual != mode:
                path.chmod(mode | usual)


def load_artifact(path: Path) -> Artifact:
    """Read the artifact in ``path``.

    Raises:
        InputError: no readable entry.
    """
    try:
        entry = json.loads((path / ENTRY).read_text(encoding="utf-8"))
        return Artifact(**{**entry, "path": path})
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            "not an edgetune artifact", where=str(path), hint=f"it has no readable {ENTRY}"
        ) from error


def verify_artifact(artifact: Artifact) -> list[str]:
    """Return what differs between the files on disk and the entry; empty when nothing does."""
    faults = []
    for name, expected in artifact.files.items():
        path = artifact.path / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif path.stat().st_size != expected["bytes"]:
            faults.append(f"{name} has {path.stat().st_size} bytes, not {expected['bytes']}")
        elif hash_file(path) != expected["sha256"]:
            faults.append(f"{name} has other content")
    return faults


def hash_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_source(path: Path) -> str:
    """Hash a file, or a folder by the names and contents of its files; ``-`` if there is none."""
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        return "-"
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and ".git" not in p.parts):
        digest.update(f"{file.relative_to(path).as_posix()}\0{hash_file(file)}\n".encode())
    return digest.hexdigest()
