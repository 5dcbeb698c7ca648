"""Curves have their numbers in a table, each with how much is behind it."""

from __future__ import annotations

from typing import Any

import pytest

from edgetune.report.curves import SHOWN, count_validation_rows, curve_figures
from edgetune.report.format import NONE
from edgetune.report.html import render_html

from .conftest import SampleRun
from .pages import check


def make_report(points: list[dict[str, Any]]) -> dict[str, Any]:
    return {"recipe": {}, "curves": [{"stage": "tune", "role": "teacher", "points": points}]}


def test_every_drawn_training_has_a_table_with_both_ends(sample: SampleRun) -> None:
    report = sample.report()
    page = render_html(report).partition('<section id="training">')[2].partition("</section>")[0]
    assert page.count("<figure>") == page.count('<svg viewBox="0 0 460') == 3
    assert page.count("<table>") == page.count("<caption>Curves of the ") == 3
    (first, *_) = curve_figures(report)
    steps = [step for step, _ in first.rows]
    assert (steps[0], steps[-1]) == ("Step 10", "Step 600") and len(steps) <= SHOWN + 2
    assert first.caption == "Curves of the teacher: 13 of 60 logged steps"
    cells = {
        str(attributes["data-label"]): attributes
        for attributes, _ in check(f"<main>{page}</main>").cells
    }
    assert cells["Training loss"]["data-n"] == "10"
    assert cells["Validation loss"]["data-metric"] == "curve_eval_loss"


def test_a_table_holds_what_was_logged_at_a_step() -> None:
    points = [
        {"step": 5, "loss": 2.0}, {"step": 10, "loss": 1.0}, {"step": 10, "eval_loss": 1.25},
        {"step": 12, "loss": 0.5},
    ]  # fmt: skip
    data, recipe = {"rows": {"validation": 700}}, {"tune": {"eval_rows": 64}}
    (found,) = curve_figures({**make_report(points), "data": data, "recipe": recipe})
    assert found.heads == [
        ("Training loss", "curve_loss"), ("Validation loss", "curve_eval_loss"),
    ]  # fmt: skip
    assert [(step, [(one.text, one.n) for one in cells]) for step, cells in found.rows] == [
        ("Step 5", [("2.00", 5), (NONE, 0)]), ("Step 10", [("1.00", 5), ("1.25", 64)]),
        ("Step 12", [("0.500", 2), (NONE, 0)]),
    ]  # fmt: skip


def test_rewarded_answers_have_their_reward_alone() -> None:
    points = [{"step": n, "loss": 0.1, "reward": n / 10} for n in range(1, 200)]
    (found,) = curve_figures(make_report(points))
    assert found.heads == [("Mean reward", "curve_reward")]
    assert len(found.rows) == SHOWN and found.rows[-1][0] == "Step 199"
    assert {cells[0].n for _, cells in found.rows} == {1}


def test_a_training_that_is_not_drawn_has_no_table() -> None:
    assert curve_figures(make_report([{"step": 1, "loss": 1.0}])) == []


@pytest.mark.parametrize(
    ("section", "data", "rows"),
    [
        ({"eval_rows": 512}, {"rows": {"validation": 700}}, 512),
        ({"eval_rows": "all"}, {"rows": {"validation": 700}}, 700),
        ({"eval_rows": 512}, {"tokens": {"validation": {"rows": 60}}}, 60),
        ([{"eval_rows": 512}], {"rows": {"validation": 700}}, 0),
        ({"eval_rows": 512}, None, 0),
    ],
)
def test_validation_rows_are_those_of_the_recipe_and_the_data(
    section: Any, data: Any, rows: int
) -> None:
    assert count_validation_rows({"recipe": {"tune": section}, "data": data}, "tune") == rows
