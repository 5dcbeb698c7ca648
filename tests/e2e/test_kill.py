"""Killed at any moment, the same command finishes with the same weights, bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import write_device_rows
from tests.e2e.conftest import start

KILLS = 10


def final_weights(out: Path) -> dict[str, bytes]:
    """Every weight file that training and merging left."""
    folders = [*out.glob("tune-*"), *out.glob("distill-*"), *out.glob("merge-*")]
    files = [p for f in folders for p in sorted(f.rglob("*.safetensors"))]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}


@pytest.mark.slow
def test_ten_kills_change_nothing(small_recipe: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    alone = start(small_recipe, tmp_path / "alone")
    _, stderr = alone.communicate(timeout=600)
    assert alone.returncode == 0, stderr[-3000:]
    whole = time.monotonic() - began

    # Moments are drawn over the time a process lives: start-up, training, commits and exports. A
    # run that reached its end between two kills is checked, and the next kills fall on a new one.
    draw = random.Random(0)
    killed, folders = 0, [tmp_path / "killed-0"]
    while killed < KILLS:
        process = start(small_recipe, folders[-1])
        try:
            _, stderr = process.communicate(timeout=draw.uniform(0.1, 0.6) * whole)
            assert process.returncode == 0, stderr[-3000:]
            folders.append(tmp_path / f"killed-{len(folders)}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
    last = start(small_recipe, folders[-1])
    _, stderr = last.communicate(timeout=600)
    assert last.returncode == 0, stderr[-3000:]
    for folder in folders:
        assert final_weights(folder) == final_weights(tmp_path / "alone")


DISTILL = """\
import sys
import edgetune.distill.cache as cache
cache.SHARD_TOKENS = 150  # several shards of a tiny cache
from edgetune.cli import main
main()
"""


def start_distilling(teacher: Path, rows: Path, out: Path) -> subprocess.Popen[str]:
    """Begin `edgetune distill` with many shards and checkpoints."""
    knobs = {
        "max_steps": 40, "batch_size": 4, "save_every": 4, "eval_every": 20, "samples": 16,
        "baseline": "false",
    }  # fmt: skip
    options = [word for key in knobs for word in ("--set", f"distill.{key}={knobs[key]}")]
    return subprocess.Popen(
        [sys.executable, "-c", DISTILL, "distill", "--teacher", teacher, "--data", rows,
         "--layers", "1", "--max-length", "48", "--out", out, *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def left_by(out: Path) -> set[Path]:
    """Shards and checkpoints that lie there."""
    cache = out.parent.glob("teacher-cache/*/*.safetensors")
    return {*cache, *out.with_name(out.name + ".part").glob("scratch/student/checkpoint-*")}


def results_of(out: Path) -> dict[str, bytes]:
    """The bytes of the cache and of the student."""
    files = [*out.parent.glob("teacher-cache/*/*"), *out.rglob("*.safetensors")]
    return {path.relative_to(out.parent).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_ten_kills_while_caching_and_training(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_device_rows(tmp_path / "rows.jsonl")
    alone = tmp_path / "alone" / "student"
    process = start_distilling(tiny_model, rows, alone)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr[-3000:]
    assert len(list((tmp_path / "alone").glob("teacher-cache/*/*.safetensors"))) > 4

    # Each process is killed soon after it has left something new behind, so that kills fall on
    # shards, checkpoints and what is between.
    draw = random.Random(0)
    killed, outs = 0, [tmp_path / "killed-0" / "student"]
    while killed < KILLS:
        out = outs[-1]
        before = left_by(out)
        process = start_distilling(tiny_model, rows, out)
        while process.poll() is None and left_by(out) <= before:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.3))
        if process.poll() is None:
            process.kill()
            killed += 1
        _, stderr = process.communicate()
        if process.returncode == 0:
            outs.append(tmp_path / f"killed-{len(outs)}" / "student")
        else:
            assert process.returncode == -signal.SIGKILL, stderr[-3000:]
    process = start_distilling(tiny_model, rows, outs[-1])
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr[-3000:]
    for out in outs:
        assert results_of(out) == results_of(alone)
