"""The report shows each group against its counterpart, the balance of train, and the limits."""

from __future__ import annotations

import json
from pathlib import Path

from edgetune.artifact import Artifact
from edgetune.facts import (
    FairnessFacts,
    GroupBalance,
    GroupFacts,
    GroupFigure,
    ModelFairness,
    to_json,
)
from edgetune.report.build import write_report
from edgetune.report.fairness import balance_rows, fairness_rows
from tests.report.conftest import SampleRun

CHANGES = GroupFigure(0.4, [0.3, 0.5], 0.05, 0.35, [0.25, 0.45], 0.0001, 0.0004, 60)
SCORE = GroupFigure(-0.25, [-0.5, 0.0], None, None, None, 0.04, 0.12, 60)
FOUND = GroupFacts("gender", "male", "female", 60, 60, 32, CHANGES, SCORE, None, None,
                   found=["label_changes"])  # fmt: skip
QUIET = GroupFacts("gender", "male", "female", 60, 0, 0, CHANGES)
FACTS = FairnessFacts(
    [
        ModelFairness("teacher", "teacher", [FOUND]),
        ModelFairness("q4|file", "file", [QUIET], "teacher", [QUIET]),
    ],
    {"gender": 60},
    {"gender": {"words of several groups": 3}},
    [
        GroupBalance("gender", "female", 30, 120, {"<b>approve": 20, "reject": 10}),
        GroupBalance("gender", "male", 0, 120),
    ],
    ["teacher treats male and female differently."],
    "This is no proof of fairness.",
)


def test_cells_tell_figures_with_intervals_and_what_is_beyond_chance() -> None:
    report = {"fairness": to_json(FACTS)}
    first, second = fairness_rows(report)
    assert first == [
        "teacher", "male against female", "60", "40.0 % (30.0 to 50.0)", "5.0 %",
        "-0.25 (-0.5 to +0)", "–", "–", "answers",
    ]  # fmt: skip
    assert second[-1] == "not tested"
    ((name, *cells),) = fairness_rows(report, changes=True)
    assert name == "q4|file" and cells[2] == "+40.0 % (+30.0 to +50.0)"
    assert balance_rows(report) == [["female", "gender", "30 (25.0 %)", "<b>approve 20, reject 10"]]
    assert fairness_rows({"fairness": None}) == balance_rows({}) == []


def test_pages_have_the_tables_the_findings_and_the_limits(tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "run").finish()
    assert run.report()["fairness"] is None
    run.artifacts["bench"] = Artifact(
        run.artifacts["bench"].path, "measurements", "bench", "b",
        facts={"models": [], "fairness": to_json(FACTS)},
    )  # fmt: skip
    report = run.report()
    write_report(report, tmp_path / "pages")
    figures = {"report.md": "40.0 % (30.0 to 50.0)", "report.html": "40.0 %<small>30.0 to 50.0<"}
    for name, figure in figures.items():
        page = (tmp_path / "pages" / name).read_text()
        for text in ("The same question of another person", "teacher treats male and female",
                     figure, "hat files changed", "Groups in the training data",
                     "30 (25.0 %)", "This is no proof of fairness."):  # fmt: skip
            assert text in page, (name, text)
    assert "<b>approve" not in (tmp_path / "pages" / "report.html").read_text()
    kept = json.loads((tmp_path / "pages" / "report.json").read_text())
    group = kept["fairness"]["models"][0]["groups"][0]
    assert group["label_changes"]["ci95"] == [0.3, 0.5] and group["against"] == "female"
