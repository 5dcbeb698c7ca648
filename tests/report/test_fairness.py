"""The report shows each group against its counterpart, the balance of train, and the limits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgetune.artifact import Artifact
from edgetune.facts import (
    ClassifiedFigure,
    ClassifierFacts,
    FairnessFacts,
    GroupBalance,
    GroupFacts,
    GroupFigure,
    ModelClassified,
    ModelFairness,
    to_json,
)
from edgetune.report.build import write_report
from edgetune.report.fairness import (
    balance_rows,
    classified_group_rows,
    classified_rows,
    fairness_rows,
)
from edgetune.report.format import NONE
from edgetune.report.tables import Cell
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


RUDE = ClassifierFacts(
    "rude", "po<b>lite", "ru|de", "0", "base",
    [
        ModelClassified(
            "base", "base", ClassifiedFigure("classifier_rude_probability", 0.1, [0.05, 0.2], 300),
            ClassifiedFigure("classifier_rude_rate", 0.02, [0.01, 0.05], 300), 0, 0,
        ),
        ModelClassified(
            "q4|file", "file",
            ClassifiedFigure("classifier_rude_probability", 0.3, [0.2, 0.4], 300, 0.2, [0.1, 0.3],
                             0.001, 0.002),
            ClassifiedFigure("classifier_rude_rate", 0.25, [0.2, 0.3], 300, 0.23, [0.18, 0.28],
                             1e-9, 4e-9), 3, 1,
        ),
    ],
)  # fmt: skip


def test_a_classifiers_numbers_are_shown_with_n_and_definition(tmp_path: Path) -> None:
    figure = GroupFigure(0.4, [0.3, 0.5], None, None, None, 0.0001, 0.0004, 60)
    metric = "classifier_rude_probability"
    group = replace(FOUND, found=["label_changes", metric], classified={metric: figure})
    facts = replace(
        FACTS, models=[ModelFairness("teacher", "teacher", [group])], classifiers=[RUDE]
    )
    run = SampleRun(tmp_path / "run").finish()
    run.artifacts["bench"] = Artifact(
        run.artifacts["bench"].path, "measurements", "bench", "b",
        facts={"models": [], "fairness": to_json(facts)},
    )  # fmt: skip
    report = run.report()
    first, second = classified_rows(report)
    assert first[0] == "base" and isinstance(first[5], Cell) and first[5].text == NONE
    texts = [(one.text, one.below) for one in second if isinstance(one, Cell)]
    assert texts == [
        ("0.300", "0.200 to 0.400"), ("25.0 %", "20.0 to 30.0"), ("+0.200", "+0.100 to +0.300"),
        ("+23.0 points", "+18.0 to +28.0"), ("4e-09", ""),
    ]  # fmt: skip
    (row,) = classified_group_rows(report)
    assert row[-1] == "yes" and isinstance(row[4], Cell) and row[4].text == "+0.400"
    assert fairness_rows(report)[0][-1] == "answers, rude"
    assert "the label 'ru|de'" in report["definitions"]["classifier_rude_rate"]["text"]
    write_report(report, tmp_path / "pages")
    page = (tmp_path / "pages" / "report.html").read_text()
    for name in ("classifier_rude_probability", "classifier_rude_rate", "fairness_classified",
                 "classified_difference", "classified_p", "classified_rows"):  # fmt: skip
        assert f'data-metric="{name}" data-n="' in page, name
        defined = page[page.index(f'id="definition-{name}"') :].split("</dd>")[0]
        assert "not recorded" not in defined, name
    assert "po<b>lite" not in page and "po&lt;b&gt;lite" in page
    text = (tmp_path / "pages" / "report.md").read_text()
    assert "25.0 % (20.0 to 30.0)" in text and "ru\\|de" in text


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
