"""A run's folder as commands meet it: one at a time, whatever happened to its sources since."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgetune.artifact import commit_part, open_part
from edgetune.lock import hold
from edgetune.recipe.load import dump_recipe, load_recipe
from edgetune.rundir import RunDir
from tests.cli.test_cli import call, refused


@pytest.fixture
def recipe(tmp_path: Path, device_rows: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {{path: embedded:base}}\ndata: {{train: {device_rows}}}\ntune: {{}}\n")
    return path


def finish_tuning(recipe: Path, run: RunDir, key: str = "0123456789") -> None:
    """Leave what a run leaves that has tuned."""
    final = run.stage_path("tune", key)
    part = open_part(final, key)
    (part / "weights").write_text("x")
    run.record(commit_part(final, "adapter", "tune", key, {}, {"steps": 3}))
    run.start({"tune": key})
    found, origins = load_recipe(recipe)
    (run.path / "recipe.yaml").write_text(dump_recipe(found, origins))


def test_a_second_run_is_told_of_the_first(tmp_path: Path, recipe: Path) -> None:
    out = tmp_path / "run"
    with hold(RunDir(out).lock_path, "this run"):
        refused(call("run", recipe, "--out", out), "another edgetune", "process", "name another")
        refused(call("run", recipe, "--out", out, "--fresh"), "another edgetune")
        plan = call("run", recipe, "--out", out, "--dry-run")
        assert plan.returncode == 0, plan.stderr
    model = ("--model", "embedded:base", "--data", recipe.with_name("rows.jsonl"))
    with hold(tmp_path / "tuned.lock", "tuned"):
        refused(call("tune", *model, "--out", tmp_path / "tuned"), "another edgetune")


def test_the_report_needs_no_sources(tmp_path: Path, recipe: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    finish_tuning(recipe, run)
    rows = recipe.with_name("rows.jsonl")
    rows.write_text(rows.read_text() * 2)
    first = call("report", run.path, "--json")
    assert first.returncode == 0, first.stderr
    rows.unlink()
    again = call("report", run.path)
    assert again.returncode == 0, again.stderr
    report = json.loads((run.path / "report" / "report.json").read_text())
    assert report["training"]["tune"]["steps"] == 3
    with hold(run.lock_path, "this run"):
        refused(call("report", run.path), "another edgetune")
    (run.stage_path("tune", "0123456789") / "weights").write_text("y")
    refused(call("report", run.path), "is not as it was made: weights has other content")


def test_report_of_no_run(tmp_path: Path) -> None:
    refused(call("report", tmp_path / "none"), "recipe.yaml", "cannot read")
    (tmp_path / "none").write_text("a file")
    refused(call("report", tmp_path / "none"), "cannot read")


@pytest.mark.parametrize(
    ("place", "why"),
    [("file", "a file lies there"), ("file/run", "is a file, not"), ("x" * 300, "too long"),
     ("a\nb" * 200, "too long")],
)  # fmt: skip
def test_absurd_places(tmp_path: Path, recipe: Path, place: str, why: str) -> None:
    (tmp_path / "file").write_text("x")
    for more in ((), ("--dry-run",)):
        refused(call("run", recipe, "--out", tmp_path / place, *more), why, "--out")
    model = ("--model", "embedded:base", "--data", recipe.with_name("rows.jsonl"))
    refused(call("tune", *model, "--out", tmp_path / place), why, "--out")


def test_a_dry_run_finds_what_would_fail_later(tmp_path: Path, recipe: Path) -> None:
    out = ("--out", tmp_path / "run")
    wrong = ("--set", "bench={}", "--set", "report.gates=[{measurement: exact_matsh, min: 0.5}]")
    for more in ((), ("--dry-run",)):
        refused(call("run", recipe, *out, *wrong, *more), "did you mean 'exact_match'")
        refused(call("run", recipe, *out, "--set", "tune.rank=5000", *more), "tune.rank")
    assert not (tmp_path / "run").exists()
    model = ("--model", "embedded:base", "--data", recipe.with_name("rows.jsonl"))
    tune = ("tune", *model, "--out", tmp_path / "tuned", "--max-length", "100000")
    refused(call(*tune, "--dry-run"), "data.max_length", "the model's context")
    refused(call(*tune), "data.max_length")


def test_no_place_and_no_model_ends_in_a_traceback(tmp_path: Path, recipe: Path) -> None:
    refused(call("run", recipe, "--out", "/proc/some/run"), "--out", "/proc/some/run")
    rows = recipe.with_name("rows.jsonl")
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"GGUF")
    tune = ("tune", "--data", rows, "--out", tmp_path / "out", "--model")
    refused(call(*tune, gguf), "this is a GGUF file")
    refused(call(*tune, "x" * 4000), "too long")
    refused(
        call(*tune, "embedded:base", "--method", "full", "--rank", "4"),
        "tune.rank", "nothing would read it", "tune.method: qlora or lora",
    )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_no_bug() -> None:
    code = (
        "import errno, sys\n"
        "import edgetune.cli as cli\n"
        "def full(*a, **k): raise OSError(errno.ENOSPC, 'No space left on device', '/data/x')\n"
        "cli.cli.main = full\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    refused(done, "/data/x", "the disk is full", "the same command goes on")
