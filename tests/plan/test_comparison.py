"""What a stage took is told beside the plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetune.log import Log
from edgetune.measure.usage import Usage
from edgetune.plan.comparison import StepCheck, log_usage
from edgetune.plan.job import Estimate

PLANNED = Estimate("tune", 1_000_000_000, 0, 0, 10.0, {}, step_seconds=2.0)


@pytest.mark.parametrize(
    ("resumed", "time"),
    [(False, "took 0:15, 50 % more than planned"), (True, "took 0:15 since it was resumed")],
)
def test_what_was_taken_is_said_beside_the_plan(
    resumed: bool, time: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log(tmp_path / "log.jsonl", "tune", key="k")
    log_usage(log, Usage(15.0, 900_000_000, 0), PLANNED, resumed)
    said = capsys.readouterr().err
    assert time in said and "900.00 MB of RAM, 10 % less than planned" in said
    event = json.loads(log.path.read_text().splitlines()[0])  # type: ignore[union-attr]
    assert event["planned"]["seconds"] == 10.0 and event["ram_bytes"] == 900_000_000


def test_without_a_plan_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_usage(Log(tmp_path / "log.jsonl", "tune"), Usage(15.0, 1, 0), None, False)
    assert capsys.readouterr().err == ""


def test_the_first_step_is_compared_with_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(None, "tune")
    listened = log.listened(StepCheck(log, PLANNED))
    listened.event("train", seconds=9.0)
    assert capsys.readouterr().err == ""
    listened.event("first_step", seconds=3.0, steps=100)
    said = capsys.readouterr().err
    assert "the first step took 3.0 s, 50 % more than planned" in said and "5:00" in said
