"""The cache: unbiased, resumable byte for byte, and refused when it is of something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgetune.data.encoded import Encoded
from edgetune.distill import cache as module
from edgetune.distill import teacher as teachers
from edgetune.distill.cache import Cache, Origin, Settings, fill_cache
from edgetune.distill.teacher import RuntimeTeacher, TorchTeacher
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from tests.model_files import make_gguf

QUIET = Log(quiet=True)
ORIGIN = Origin("a teacher", "a tokenizer", "a template")
SETTINGS = Settings("sample", 30, 1.0, 1)


@pytest.fixture
def teacher(tiny_model: Path) -> TorchTeacher:
    return TorchTeacher(load_model(ModelRef(tiny_model)))


@pytest.fixture
def rows() -> list[Encoded]:
    made = []
    for number in range(11):
        length = 5 + number % 4
        ids = [(number * 7 + i * 3) % 300 + 3 for i in range(length)]
        made.append(Encoded(ids, [i >= 3 for i in range(length)], False))
    return made


def fill(
    teacher: TorchTeacher | RuntimeTeacher, rows: list[Encoded], folder: Path,
    settings: Settings = SETTINGS, origin: Origin = ORIGIN,
) -> Cache:  # fmt: skip
    return fill_cache(teacher, rows, settings, origin, folder, QUIET)


def read_all(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_positions_and_shares(teacher: TorchTeacher, rows: list[Encoded], tmp_path: Path) -> None:
    cache = fill(teacher, rows, tmp_path / "c")
    assert len(cache) == len(rows)
    assert cache.positions == sum(sum(row.trained) for row in rows)
    for row, target in zip(rows, (cache[i] for i in range(len(rows))), strict=True):
        assert len(target.lengths) == sum(row.trained)
        first = np.cumsum(target.lengths) - target.lengths
        np.testing.assert_allclose(np.add.reduceat(target.probs, first), 1, rtol=1e-6)
        for at, length in zip(first, target.lengths, strict=True):
            assert len(set(target.ids[at : at + length])) == length


def test_the_sample_is_unbiased(teacher: TorchTeacher, rows: list[Encoded], tmp_path: Path) -> None:
    row = rows[0]
    sampled = np.zeros(teacher.vocabulary)
    for seed in range(40):
        settings = Settings("sample", 200, 1.0, seed)
        target = fill(teacher, [row], tmp_path / str(seed), settings)[0]
        sampled[target.ids[: target.lengths[0]]] += target.probs[: target.lengths[0]] / 40
    ((_, logits_NV),) = teacher.score([row])
    dense = logits_NV[0].softmax(-1).numpy()
    # 8,000 draws: the standard error of a share p is sqrt(p (1 - p) / 8000), at most 0.0056.
    assert np.abs(sampled - dense).max() < 5 * 0.0056
    assert np.abs(sampled - dense).sum() < 0.25


def test_top_k_keeps_the_largest_and_the_rest(
    teacher: TorchTeacher, rows: list[Encoded], tmp_path: Path
) -> None:
    cache = fill(teacher, rows, tmp_path / "c", Settings("top_k", 7, 2.0, 1))
    for index, logits_NV in teacher.score(rows):
        p = (logits_NV / 2.0).softmax(-1)
        top = p.topk(7, dim=1)
        target = cache[index]
        assert target.tail is not None
        found = target.probs.reshape(-1, 7)
        np.testing.assert_allclose(found, top.values.numpy(), atol=1.01 / 65_535)
        np.testing.assert_allclose(found.sum(1) + target.tail, 1, rtol=1e-6)
        assert np.array_equal(target.ids.reshape(-1, 7), top.indices.numpy())


def test_a_killed_pass_gives_the_same_bytes(
    teacher: TorchTeacher, rows: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_TOKENS", 20)
    fill(teacher, rows, tmp_path / "whole")
    wanted = read_all(tmp_path / "whole")
    assert len(wanted) == 4
    calls = 0
    score = TorchTeacher.score

    def die(self: TorchTeacher, rows: list[Encoded]):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == 4:  # the estimate, two shards, and then
            raise KeyboardInterrupt
        return score(self, rows)

    monkeypatch.setattr(TorchTeacher, "score", die)
    with pytest.raises(KeyboardInterrupt):
        fill(teacher, rows, tmp_path / "killed")
    (tmp_path / "killed" / "00002.safetensors.part").write_bytes(b"half")
    with pytest.raises(InputError, match="broken shard"):
        Cache(tmp_path / "killed")
    calls = 100
    fill(teacher, rows, tmp_path / "killed")
    assert read_all(tmp_path / "killed") == wanted


def test_a_damaged_shard_alone_is_made_again(
    teacher: TorchTeacher, rows: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_TOKENS", 20)
    fill(teacher, rows, tmp_path / "c")
    wanted = read_all(tmp_path / "c")
    path = tmp_path / "c" / "00001.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 4
    path.write_bytes(raw)
    with pytest.raises(InputError, match="not those that were written"):
        Cache(tmp_path / "c")
    before = (tmp_path / "c" / "00000.safetensors").stat().st_mtime_ns
    fill(teacher, rows, tmp_path / "c")
    assert read_all(tmp_path / "c") == wanted
    assert (tmp_path / "c" / "00000.safetensors").stat().st_mtime_ns == before


def test_batching_does_not_change_the_draws(
    teacher: TorchTeacher, rows: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = fill(teacher, rows, tmp_path / "a")
    monkeypatch.setattr(teachers, "BATCH_TOKENS", 1)
    b = fill(teacher, rows, tmp_path / "b")
    assert all(np.array_equal(a[i].ids, b[i].ids) for i in range(len(rows)))


def test_a_gguf_teacher_has_the_same_distributions(
    tiny_model: Path, teacher: TorchTeacher, rows: list[Encoded], tmp_path: Path
) -> None:
    from edgetune.runtimes import open_runtime

    runtime = open_runtime(make_gguf(tiny_model))
    try:
        file = RuntimeTeacher(runtime, teacher.vocabulary)
        wanted = dict(teacher.score(rows))
        for index, logits_NV in file.score(rows):
            torch.testing.assert_close(logits_NV, wanted[index], rtol=1e-3, atol=1e-3)
    finally:
        runtime.close()


@pytest.mark.parametrize("part", ["teacher", "tokenizer", "template", "data", "settings"])
def test_a_foreign_cache_is_refused_by_what_differs(
    part: str, teacher: TorchTeacher, rows: list[Encoded], tmp_path: Path
) -> None:
    fill(teacher, rows, tmp_path / "c")
    origin, settings, given = ORIGIN, SETTINGS, rows
    if part == "data":
        given = rows[::-1]
    elif part == "settings":
        settings = replace(SETTINGS, count=31)
    else:
        origin = replace(ORIGIN, **{part: "another"})
    with pytest.raises(InputError, match=f"of another {part}\n"):
        fill(teacher, given, tmp_path / "c", settings, origin)


def test_an_unreadable_header(tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text(json.dumps({"version": 1}))
    with pytest.raises(InputError, match="its version is 1, not 2"):
        Cache(tmp_path)
