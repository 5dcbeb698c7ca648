"""Two runs are compared model by model, paired where they were asked the same rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgetune.cli import cli
from edgetune.errors import InputError
from edgetune.report.build import write_report
from edgetune.report.run_diff import diff_runs

from .conftest import MODELS, SampleRun, make_model


def make_run(path: Path, teacher: float, count: int = 60) -> Path:
    """A run whose teacher scores otherwise, with its report."""
    run = SampleRun(path)
    run.finish(run.answer(count))
    folder = run.run.path / "report"
    for name in ("predictions/teacher.jsonl",):
        lines = [f"lamp {n}" if n < teacher * count else "no" for n in range(count)]
        text = "".join(json.dumps({"answer": line}) + "\n" for line in lines)
        (run.artifacts["bench"].path / name).write_text(text)
    report = run.report()
    for model in report["models"]:  # measured by bench itself, here of other rows
        model["measurements"] = [m for m in model["measurements"] if m["name"] != "exact_match"]
    graded = json.loads((folder / "graded.json").read_text())["graded"]
    for model, one in zip(report["models"], graded["models"], strict=True):
        where = model["measurements"][0]["where"]
        model["measurements"] += [{**score, "where": where} for score in one["scores"]]
    write_report(report, folder)
    return path


def test_metrics_are_paired_and_flips_counted_where_rows_are_the_same(tmp_path: Path) -> None:
    found = diff_runs(make_run(tmp_path / "a", 0.5), make_run(tmp_path / "b", 0.9))
    assert found["rows_are_the_same"] and not found["only_first"] and not found["only_second"]
    metrics = {(one["model"], one["metric"]): one for one in found["metrics"]}
    teacher = metrics["teacher", "exact_match"]
    assert (teacher["first"], teacher["second"], teacher["paired"]) == (0.5, 0.9, True)
    assert 0.2 < teacher["ci95"][0] < 0.4 < teacher["ci95"][1] and teacher["n"] == 60
    assert metrics["base", "exact_match"]["difference"] == 0
    assert metrics["base", "load_s"]["ci95"] is None
    flips = {one["model"]: (one["lost"], one["gained"]) for one in found["flips"]}
    assert flips["teacher"] == (0, 24) and flips["base"] == (0, 0)
    back = diff_runs(tmp_path / "b", tmp_path / "a")
    assert {one["model"]: one["lost"] for one in back["flips"]}["teacher"] == 24


def test_other_rows_are_two_samples(tmp_path: Path) -> None:
    found = diff_runs(make_run(tmp_path / "a", 0.5), make_run(tmp_path / "b", 0.9, count=40))
    assert not found["rows_are_the_same"] and found["flips"] == []
    (teacher,) = [
        one for one in found["metrics"]
        if (one["model"], one["metric"]) == ("teacher", "exact_match")
    ]  # fmt: skip
    assert not teacher["paired"] and teacher["ci95"][0] > 0


def test_files_of_other_names_are_matched_by_their_scheme(tmp_path: Path) -> None:
    from edgetune.report.run_diff import match_models

    models = [make_model(row) for row in MODELS]
    renamed = [{**m, "name": m["name"].replace("quickstart", "other")} for m in models[1:]]
    pairs = match_models(models, renamed)
    assert len(pairs) == len(models) - 1
    assert all(one["scheme"] == other["scheme"] for one, other in pairs)


def test_the_command_takes_two_runs_or_one(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "a", 0.5), make_run(tmp_path / "b", 0.9)
    runner = CliRunner()
    said = runner.invoke(cli, ["report", "diff", str(first), str(second)])
    assert said.exit_code == 0, said.output
    assert (
        "teacher: exact_match 0.5 → 0.9, +0.4" in said.output and "60 rows, paired" in said.output
    )
    assert "teacher: 24 rows wrong → right, 0 rows right → wrong" in said.output
    given = runner.invoke(cli, ["report", "diff", str(first), str(second), "--json"])
    assert json.loads(given.output)["rows_are_the_same"] is True
    help_text = runner.invoke(cli, ["report", "--help"]).output
    assert "diff" in help_text and "write" in help_text
    missing = runner.invoke(cli, ["report", str(tmp_path / "none")])
    assert isinstance(missing.exception, InputError)  # `report RUN` writes, as before
    assert isinstance(runner.invoke(cli, ["report", "--json", "none"]).exception, InputError)


def test_a_run_without_a_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no report that can be read"):
        diff_runs(tmp_path, tmp_path)
