"""The terminal and report.md say whether tuning helped, by the task's own metric."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from edgetune.report.build import write_report
from edgetune.report.terminal import print_summary

from .conftest import SampleRun


def test_the_answers_stand_on_the_terminal_and_in_markdown(
    answered: SampleRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = answered.report()
    monkeypatch.setenv("COLUMNS", "200")
    stream = io.StringIO()
    print_summary(report, stream)
    write_report(report, tmp_path)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    for text in (stream.getvalue(), markdown):
        assert "Did tuning help? Yes. The tuned model (teacher) has 96.3" in text
        assert "Did shipping keep it? Not certain. quickstart-Q4_K_M.gguf" in text
    assert "exact match" in stream.getvalue()
    assert "Task: exact (guessed: " in markdown and ", 60 rows." in markdown
    (line,) = [one for one in markdown.splitlines() if one.startswith("| teacher | base |")]
    assert "+95.0 points" in line and "better: certain" in line.lower()


def test_the_score_column_is_the_task_s_metric(
    answered: SampleRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    report = answered.report()
    report["evaluation"]["task"]["headline"] = "accuracy"
    report["definitions"]["accuracy"] = {"title": "Accuracy", "unit": "", "text": ""}
    for model in report["models"]:
        one = {**model["measurements"][0], "name": "accuracy", "value": 0.123}
        model["measurements"].append(one)
    stream = io.StringIO()
    print_summary(report, stream)
    assert " accuracy " in stream.getvalue() and "12.3" in stream.getvalue()
