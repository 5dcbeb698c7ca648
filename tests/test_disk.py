"""Content is on the disk before the name that vouches for it; places that cannot be are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgetune.artifact import SCRATCH, commit_part, finish_commit, load_artifact, open_part
from edgetune.disk import check_place, make_folder, rename_whole, write_atomic
from edgetune.errors import InputError


class Disk:
    """What was synced and renamed, in order, by path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        fsync, rename, replace = os.fsync, os.rename, os.replace

        def sync(descriptor: int) -> None:
            self.events.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
            fsync(descriptor)

        def move(real: object, a: object, b: object) -> None:
            self.events.append(("rename", f"{a} → {b}"))
            real(a, b)  # type: ignore[operator]

        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(os, "rename", lambda a, b: move(rename, a, b))
        monkeypatch.setattr(os, "replace", lambda a, b: move(replace, a, b))

    def at(self, kind: str, path: object) -> int:
        """When it happened, the last time."""
        return max(i for i, event in enumerate(self.events) if event == (kind, str(path)))


def test_a_commit_is_on_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "tune-1"
    part = open_part(final, "k")
    (part / "sub").mkdir()
    (part / "sub" / "weights").write_bytes(b"abc")
    (part / SCRATCH).mkdir()
    disk = Disk(monkeypatch)
    commit_part(final, "adapter", "tune", "k", {}, {})
    renamed = disk.at("rename", f"{part} → {final}")
    for path in (part / "sub" / "weights", part / "sub", part, part / "artifact.json"):
        assert disk.at("sync", path) < renamed
    assert disk.at("sync", tmp_path) > renamed


def test_a_rewritten_file_is_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "manifest.json"
    disk = Disk(monkeypatch)
    write_atomic(path, "{}")
    renamed = disk.at("rename", f"{path}.tmp → {path}")
    assert disk.at("sync", f"{path}.tmp") < renamed < disk.at("sync", tmp_path)
    (tmp_path / "part").write_text("x")
    rename_whole(tmp_path / "part", tmp_path / "whole")
    renamed = disk.at("rename", f"{tmp_path / 'part'} → {tmp_path / 'whole'}")
    assert disk.at("sync", tmp_path / "part") < renamed


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("moment", ["hash", "sync", "drop", "rename"])
def test_a_commit_cut_short_loses_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Killed at any moment of a commit, checkpoints are still there or the commit is finished."""
    final = tmp_path / "tune-1"
    part = open_part(final, "k")
    (part / "weights").write_bytes(b"abc")
    (part / SCRATCH).mkdir()
    (part / SCRATCH / "checkpoint").write_text("x")
    names = {"hash": "hash_file", "sync": "sync_tree", "drop": "shutil", "rename": "rename_whole"}

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        target = "edgetune.artifact." + names[moment] + (".rmtree" if moment == "drop" else "")
        patch.setattr(target, die)
        commit_part(final, "adapter", "tune", "k", {}, {"x": 1})
    assert not final.exists()
    assert finish_commit(final, "another") is None
    made = finish_commit(final, "k")
    if moment == "hash":
        assert made is None
        assert (open_part(final, "k") / SCRATCH / "checkpoint").exists()
    else:
        assert made == load_artifact(final) and made.facts == {"x": 1}
        assert sorted(p.name for p in final.iterdir()) == ["artifact.json", "weights"]


def test_a_torn_commit_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = tmp_path / "tune-1"
    part = open_part(final, "k")
    (part / "weights").write_bytes(b"abc")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("edgetune.artifact.rename_whole", lambda *_: (_ for _ in ()).throw(Killed()))
        commit_part(final, "adapter", "tune", "k", {}, {})
    (part / "weights").write_bytes(b"")
    assert finish_commit(final, "k") is None and not final.exists()


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere" / "at-all")
    cases = {
        tmp_path / "file": "a file lies there",
        tmp_path / "file" / "sub" / "out": "is a file, not a folder",
        tmp_path / ("x" * 300): "too long",
        tmp_path / "a\0b": "no name of a folder",
        tmp_path / "broken" / "out": "leads nowhere",
        Path("/proc/out"): "cannot read or write",
    }
    for path, why in cases.items():
        if path != Path("/proc/out"):  # only making it tells, where the owner may do all
            with pytest.raises(InputError, match=why) as error:
                check_place(path)
            assert len(str(error.value)) < 600 and error.value.hint
        with pytest.raises(InputError, match="cannot read or write"):
            make_folder(path)
    check_place(tmp_path / "new" / "deeper")
    assert not (tmp_path / "new").exists()


def test_a_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # for root all is allowed
    with pytest.raises(InputError, match="may not write there"):
        check_place(tmp_path / "out")
