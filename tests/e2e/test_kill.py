"""Killed at any moment, the same command finishes with the same weights, bit for bit."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

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
