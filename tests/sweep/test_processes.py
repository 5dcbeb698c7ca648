"""Two processes work on one PostgreSQL study, one is killed: no trial is lost or doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from edgetune.log import Log
from edgetune.recipe.load import load_recipe
from edgetune.sweep.study import Study
from edgetune.sweep.trials import Trial

from .conftest import Server, small_tree

TRIALS = 10  # twice as many in bench/sweep.py


def start(recipe: Path, out: Path, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgetune", "sweep", str(recipe), "--trials", str(TRIALS),
         "--out", str(out), "--storage", url, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_no_trial_is_lost_or_doubled_when_one_of_two_processes_is_killed(
    tiny_model: Path, tmp_path: Path, postgres: Server
) -> None:
    path, out = tmp_path / "small.yaml", tmp_path / "sweep"
    path.write_text(yaml.safe_dump(small_tree(tiny_model, tmp_path)))
    search = load_recipe(path)[0].search
    assert search is not None
    first, second = start(path, out, postgres.url), start(path, out, postgres.url)
    study = Study(search, postgres.url, "small", tmp_path, Log(quiet=True))

    def owned() -> list[Trial]:
        return [t for t in study.trials() if t.owner == first.pid]

    deadline = time.monotonic() + 400
    while not (done := sum(t.is_finished for t in owned())) >= 2 or not any(
        t.state == "running" for t in owned()
    ):
        assert time.monotonic() < deadline and first.poll() is None, done
        time.sleep(0.2)
    victim = next(t.number for t in owned() if t.state == "running")
    first.kill()
    first.communicate()
    said, stderr = second.communicate(timeout=400)
    assert second.returncode == 0, stderr[-3000:]

    trials = study.trials()
    assert [one.number for one in trials] == list(range(TRIALS))
    assert {one.state for one in trials} == {"complete"}, stderr[-3000:]
    assert len({tuple(one.values.values()) for one in trials}) == TRIALS
    assert trials[victim].owner == second.pid
    assert f"trial {victim} is taken up again" in stderr
    answer = json.loads(said.splitlines()[-1])
    assert answer["trials"] == TRIALS and answer["comparison"]["best"] == answer["best"]
    # What does not differ between trials was made once.
    assert len(list((out / "artifacts").glob("prepare-*"))) == 1
