"""The page of a sweep: whole and without scripts, at any stage of it, and right in what it says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edgetune.report.sweep import render_sweep, summarise

from .test_html import check


def trial(number: int, rank: int, rate: float, score: float | None, **more: Any) -> dict[str, Any]:
    measures = {} if score is None else {"score": score, "bytes": 4e6 + rank, "tpot": 2.0}
    return {
        "number": number,
        "state": "running" if score is None else "complete",
        "values": {"tune.rank": rank, "tune.learning_rate": rate, "data.system": "<i>a"},
        "objectives": {} if score is None else {"score": score},
        "is_feasible": True,
        "facts": {} if score is None else {"file": "m", "measures": measures, "seconds": 60.0},
        **more,
    }


def make_report(trials: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    done = [one for one in trials if one["state"] == "complete" and one["is_feasible"]]
    best = max(done, key=lambda one: float(one["objectives"]["score"]), default=None)
    return {
        "schema": 1,
        "name": "study <b>",
        "created": "2026-11-27T19:00:00+00:00",
        "objectives": {"score": "exact match"},
        "constraints": {"bytes": "<= 5 MB"},
        "space": {
            "tune.rank": {"values": [8, 16]},
            "tune.learning_rate": {"kind": "log", "low": 1e-5, "high": 1e-3},
            "data.system": {"values": ["<i>a", "b"]},
        },
        "trials": trials,
        "best": best["number"] if best else None,
        "pareto": [best["number"]] if best else [],
        "importance": {},
        "comparison": None,
        **more,
    }


FAILED = {"state": "failed", "facts": {"why": "the <loss> is no number"}}
TRIALS = [
    trial(0, 8, 1e-4, 0.5),
    trial(1, 16, 3e-4, 0.75),
    trial(2, 16, 9e-4, 0.9, is_feasible=False),
    trial(3, 8, 5e-4, None, **FAILED),
    trial(4, 8, 5e-4, None),
]
VALUE = {"value": 0.75, "ci95": [0.7, 0.8], "n": 300, "name": "exact_match"}
COMPARISON = {
    "best": 1, "looks": 1, "split": "test", "measure": "score", "of_best": VALUE,
    "of_default": {**VALUE, "value": 0.5, "ci95": [0.45, 0.55]}, "difference": 0.25,
    "ci95": [0.2, 0.3], "p_value": 1e-5, "n": 300, "verdict": "better",
}  # fmt: skip


@pytest.mark.parametrize(
    "report",
    [
        make_report([]),
        make_report([trial(0, 8, 1e-4, None)]),
        make_report(TRIALS[:1]),
        make_report(TRIALS, importance={"tune.rank": 0.3, "tune.learning_rate": 0.7}),
        make_report(TRIALS, comparison=COMPARISON),
    ],
    ids=["none", "running", "one", "some", "done"],
)
def test_page_is_whole_and_escapes_at_any_stage(report: dict[str, Any]) -> None:
    page = render_sweep(json.loads(json.dumps(report)))
    assert check(page).attributes
    assert not re.search(r"url\(|<script|<link|https?:|<i>|<loss>|study <b>|built-in", page)


def test_rows_are_the_best_first_and_the_reasons_stand_there() -> None:
    page = render_sweep(make_report(TRIALS))
    rows = re.findall(r"<td><b>(\d+)", page)
    assert rows[-5:] == ["1", "0", "2", "3", "4"]
    assert "breaks a constraint" in page and "the &lt;loss&gt; is no number" in page


def test_what_is_said_of_the_comparison_is_what_was_found() -> None:
    assert "Trial 1 is the best so far" in summarise(make_report(TRIALS))
    better = summarise(make_report(TRIALS, comparison=COMPARISON))
    assert "better than the recipe" in better and "+25.00 points" in better
    noise = {**COMPARISON, "verdict": "within the noise", "ci95": [-0.1, 0.6]}
    assert "not better than the recipe’s own values beyond the noise" in summarise(
        make_report(TRIALS, comparison=noise)
    )
    alone = {**COMPARISON, "n": 1, "ci95": [], "verdict": "within the noise"}  # one row
    assert "beyond the noise" in summarise(make_report(TRIALS, comparison=alone))
    again = {**COMPARISON, "looks": 2}
    assert "2. look" in summarise(make_report(TRIALS, comparison=again))
    flattered = {**COMPARISON, "split": "validation"}
    assert "flatters" in summarise(make_report(TRIALS, comparison=flattered))
