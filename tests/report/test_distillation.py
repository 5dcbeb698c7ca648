"""Distillation is compared by the task's own metric, paired where answers were graded."""

from __future__ import annotations

from typing import Any

import pytest

from edgetune.report.build import write_report
from edgetune.report.distillation import compare_distillation, tell_difference, tell_scores
from edgetune.report.html import render_html

from .conftest import SampleRun, make_model


def score(role: str, value: float, low: float, high: float) -> dict:
    model = make_model((role, role, "hf", "BF16", 1.0, value, 0.1, 1.0))
    model["measurements"][0]["ci95"] = [low, high]
    return model


@pytest.mark.parametrize(
    ("student", "verdict"),
    [
        ((0.95, 0.92, 0.97), "won"),
        ((0.91, 0.88, 0.94), "no significant difference"),
        ((0.80, 0.76, 0.84), "lost"),
    ],
)
def test_distillation(student: tuple[float, float, float], verdict: str) -> None:
    models = [
        score("teacher", 0.97, 0.95, 0.98),
        score("baseline", 0.89, 0.86, 0.91),
        score("merged", *student),
    ]
    found = compare_distillation(models)
    assert found is not None
    assert found["verdict"] == verdict
    assert found["gap_recovered"] == pytest.approx((student[0] - 0.89) / 0.08)
    assert compare_distillation(models[:2]) is None


def test_newcombe_interval() -> None:
    """Newcombe 1998, table II, case (a): 56/70 against 48/80 is 0.2 with 0.0524 to 0.3339."""
    models = [
        score("baseline", 48 / 80, 0.4905, 0.7005),
        score("merged", 56 / 70, 0.6915, 0.8771),
    ]
    found = compare_distillation(models)
    assert found is not None
    assert found["ci95"] == pytest.approx([0.0524, 0.3339], abs=2e-3)


def graded(difference: float, ends: list[float], p_value: float, metric: str) -> dict[str, Any]:
    pair = {
        "reference": "baseline", "candidate": "merged", "metric": metric, "n": 200,
        "difference": difference, "ci95": ends, "p_adjusted": p_value,
    }  # fmt: skip
    return {"task": {"headline": metric}, "differences": [pair]}


def with_metric(name: str, values: dict[str, float]) -> list[dict]:
    models = []
    for role, value in values.items():
        model = score(role, 0.5, 0.4, 0.6)
        model["measurements"].append({**model["measurements"][0], "name": name, "value": value})
        models.append(model)
    return models


@pytest.mark.parametrize(
    ("ends", "p_value", "verdict"),
    [
        ([0.01, 0.09], 0.01, "won"),
        ([0.01, 0.09], 0.2, "no significant difference"),  # among many comparisons
        ([-0.01, 0.11], 0.01, "no significant difference"),
    ],
)
def test_graded_answers_are_compared_by_rows(
    ends: list[float], p_value: float, verdict: str
) -> None:
    models = with_metric("field_f1", {"teacher": 0.95, "baseline": 0.85, "merged": 0.9})
    found = compare_distillation(models, graded(0.05, ends, p_value, "field_f1"))
    assert found is not None
    assert (found["metric"], found["verdict"], found["n"]) == ("field_f1", verdict, 200)
    assert found["gap_recovered"] == pytest.approx(0.5)
    definitions = {"field_f1": {"title": "Field F1", "unit": ""}}
    assert tell_difference(found, definitions).startswith("+5.0 points of field F1 (95")
    assert tell_scores(found, definitions).startswith("teacher 95.0\u202f%, student 90.0")


def test_metrics_on_other_scales_have_no_points() -> None:
    models = with_metric("chrf", {"baseline": 51.0, "merged": 48.0})
    found = compare_distillation(models, graded(-3.0, [-4.0, -2.0], 0.001, "chrf"))
    assert found is not None and found["verdict"] == "lost" and found["gap_recovered"] is None
    assert (
        tell_difference(found, {}) == "\u22123 of chrf (95 % interval \u22124 to \u22122, n = 200)"
    )


def test_exact_match_is_compared_where_the_task_s_metric_is_missing() -> None:
    models = [score("baseline", 0.5, 0.45, 0.55), score("merged", 0.8, 0.75, 0.85)]
    evaluation: dict[str, Any] = {"task": {"headline": "chrf"}, "differences": []}
    found = compare_distillation(models, evaluation)
    assert found is not None and (found["metric"], found["verdict"]) == ("exact_match", "won")


def test_every_page_names_the_metric(answered: SampleRun, tmp_path: Any) -> None:
    report = answered.report()
    assert report["distillation"]["metric"] == "exact_match" and report["distillation"]["n"] == 60
    write_report(report, tmp_path)
    for name in ("report.md", "MODEL_CARD.md"):
        assert "points of exact match (95 % interval" in (tmp_path / name).read_text(), name
    assert "points of exact match (95 % interval" in render_html(report)
