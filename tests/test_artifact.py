"""Artifacts are whole or absent, and say when they have been changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgetune.artifact import (
    SCRATCH,
    commit_part,
    hash_source,
    load_artifact,
    make_key,
    open_part,
    verify_artifact,
)
from edgetune.errors import InputError
from edgetune.rundir import RunDir


def test_commit_renames_hashes_and_drops_scratch(tmp_path: Path) -> None:
    final = tmp_path / "tune-1"
    part = open_part(final, "k")
    (part / "sub").mkdir()
    (part / "sub" / "weights").write_bytes(b"abc")
    (part / SCRATCH).mkdir()
    (part / SCRATCH / "checkpoint").write_text("x")
    artifact = commit_part(final, "adapter", "tune", "k", {"base": "b"}, {"path": tmp_path})
    assert not part.exists()
    assert set(artifact.files) == {"sub/weights"}
    assert artifact.files["sub/weights"]["bytes"] == 3
    assert load_artifact(final) == artifact
    assert verify_artifact(artifact) == []


def test_damage_is_named(tmp_path: Path) -> None:
    final = tmp_path / "a"
    part = open_part(final, "k")
    (part / "w").write_bytes(b"abc")
    artifact = commit_part(final, "model", "merge", "k", {}, {})
    (final / "w").write_bytes(b"abd")
    assert verify_artifact(artifact) == ["w has other content"]
    (final / "w").write_bytes(b"ab")
    assert verify_artifact(artifact) == ["w has 2 bytes, not 3"]
    (final / "w").unlink()
    assert verify_artifact(artifact) == ["w is missing"]


def test_part_is_kept_for_the_same_key_only(tmp_path: Path) -> None:
    final = tmp_path / "a"
    (open_part(final, "k") / "half").write_text("x")
    assert (open_part(final, "k") / "half").exists()
    assert not (open_part(final, "other") / "half").exists()


def test_a_finished_artifact_is_never_overwritten(tmp_path: Path) -> None:
    final = tmp_path / "a"
    open_part(final, "k")
    commit_part(final, "model", "merge", "k", {}, {})
    open_part(final, "k")
    with pytest.raises(InputError, match="exists already"):
        commit_part(final, "model", "merge", "k", {}, {})


def test_keys_depend_on_everything() -> None:
    base = make_key("tune", 1, {"seed": 0}, {"base": "b"})
    assert base == make_key("tune", 1, {"seed": 0}, {"base": "b"})
    others = [
        make_key("merge", 1, {"seed": 0}, {"base": "b"}),
        make_key("tune", 2, {"seed": 0}, {"base": "b"}),
        make_key("tune", 1, {"seed": 1}, {"base": "b"}),
        make_key("tune", 1, {"seed": 0}, {"base": "c"}),
    ]
    assert len({base, *others}) == 5


def test_killed_between_rename_and_manifest_is_found(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    final = run.stage_path("tune", "0123456789")
    open_part(final, "0123456789")
    commit_part(final, "adapter", "tune", "0123456789", {}, {"x": 1})
    assert run.manifest() == []
    artifact, faults = run.find("tune", "0123456789")
    assert artifact is not None and artifact.facts == {"x": 1} and not faults
    run.record(artifact)
    run.record(artifact)
    assert [entry["stage"] for entry in run.manifest()] == ["tune"]


def test_unreadable_manifest_is_explained(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="manifest"):
        RunDir(tmp_path).manifest()


def test_hash_source_sees_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = hash_source(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert hash_source(tmp_path) != first
    assert hash_source(tmp_path / "none") == "-"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_reads_a_file(umask: int, mode: int, tmp_path: Path) -> None:
    """safetensors and onnx write 0600: nobody else, a web server say, could read those."""
    before = os.umask(umask)
    try:
        part = open_part(tmp_path / "a", "k")
        (part / "sub").mkdir()
        (part / "sub" / "weights").touch(mode=0o600)
        (part / "tool").touch(mode=0o700)
        commit_part(tmp_path / "a", "files", "export", "k", {}, {})
    finally:
        os.umask(before)
    found = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert found == {"weights": mode, "tool": mode | 0o700, "artifact.json": mode}
