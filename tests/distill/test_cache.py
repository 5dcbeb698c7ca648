"""The cache: unbiased, resumable byte for byte, and refused when it is of something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edgetune.data.encode import Encoded
from edgetune.distill import cache as module
from edgetune.distill.cache import Cache, fill_cache
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef

QUIET = Log(quiet=True)


@pytest.fixture
def teacher(tiny_model: Path) -> torch.nn.Module:
    return load_model(ModelRef(tiny_model))


@pytest.fixture
def rows() -> list[Encoded]:
    made = []
    for number in range(11):
        length = 5 + number % 4
        ids = [(number * 7 + i * 3) % 300 + 3 for i in range(length)]
        made.append(Encoded(ids, [i >= 3 for i in range(length)], False))
    return made


def read_all(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_positions_and_counts(
    teacher: torch.nn.Module, rows: list[Encoded], tmp_path: Path
) -> None:
    cache = fill_cache(teacher, rows, 50, 1, tmp_path / "c", QUIET)
    assert len(cache) == len(rows)
    for row, target in zip(rows, (cache[i] for i in range(len(rows))), strict=True):
        assert len(target.offsets) - 1 == sum(row.trained)
        for first, last in zip(target.offsets[:-1], target.offsets[1:], strict=True):
            assert target.counts[first:last].sum() == 50
            assert len(set(target.ids[first:last])) == last - first


def test_the_sample_is_unbiased(
    teacher: torch.nn.Module, rows: list[Encoded], tmp_path: Path
) -> None:
    row = rows[0]
    sampled = np.zeros(400)
    for seed in range(40):
        target = fill_cache(teacher, [row], 200, seed, tmp_path / str(seed), QUIET)[0]
        low, high = target.offsets[0], target.offsets[1]
        sampled[target.ids[low:high]] += target.counts[low:high] / 200 / 40
    with torch.no_grad():
        logits = teacher(input_ids=torch.tensor([row.ids])).logits
    dense = logits[0, row.trained.index(True) - 1].softmax(-1).numpy()
    # 8,000 draws: the standard error of a share p is sqrt(p (1 - p) / 8000), at most 0.0056.
    assert np.abs(sampled[: len(dense)] - dense).max() < 5 * 0.0056
    assert np.abs(sampled[: len(dense)] - dense).sum() < 0.25


def test_a_killed_pass_gives_the_same_bytes(
    teacher: torch.nn.Module, rows: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_ROWS", 4)
    fill_cache(teacher, rows, 30, 1, tmp_path / "whole", QUIET)
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    (tmp_path / "killed" / "cache.json").unlink()
    (tmp_path / "killed" / "00001.npz").unlink()
    (tmp_path / "killed" / "00002.tmp").write_bytes(b"half")
    fill_cache(teacher, rows, 30, 1, tmp_path / "killed", QUIET)
    (tmp_path / "killed" / "00002.tmp").unlink(missing_ok=True)
    assert read_all(tmp_path / "whole") == read_all(tmp_path / "killed")


def test_batching_does_not_change_the_draws(
    teacher: torch.nn.Module, rows: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_cache(teacher, rows, 30, 1, tmp_path / "a", QUIET)
    monkeypatch.setattr(module, "BATCH_TOKENS", 1)
    fill_cache(teacher, rows, 30, 1, tmp_path / "b", QUIET)
    a, b = Cache(tmp_path / "a"), Cache(tmp_path / "b")
    same = [np.array_equal(a[i].ids, b[i].ids) for i in range(len(rows))]
    assert all(same)


def test_a_foreign_cache_is_refused_by_what_differs(
    teacher: torch.nn.Module, rows: list[Encoded], tmp_path: Path
) -> None:
    fill_cache(teacher, rows, 30, 1, tmp_path / "c", QUIET)
    with pytest.raises(InputError, match="another draws"):
        fill_cache(teacher, rows, 31, 1, tmp_path / "c", QUIET)
    with pytest.raises(InputError, match="another rows"):
        fill_cache(teacher, rows[::-1], 30, 1, tmp_path / "c", QUIET)
