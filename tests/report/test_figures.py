"""Metrics are written on their own scale: percent is of fractions alone."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from edgetune.evaluate import TASKS
from edgetune.report.figures import write_difference, write_interval, write_value


@pytest.mark.parametrize(
    ("task", "metric", "value", "text"),
    [
        ("classification", "accuracy", 0.893, "89.3\u202f%"),
        ("generation", "rouge_l", 0.412, "41.2\u202f%"),
        ("generation", "bleu", 34.5, "34.5"),
        ("translation", "chrf", 55.31, "55.3"),
        ("custom", "custom_score", 7.25, "7.25"),
    ],
)
def test_only_fractions_are_in_percent(task: str, metric: str, value: float, text: str) -> None:
    definitions = {name: asdict(one) for name, one in TASKS[task].definitions.items()}
    assert write_value(value, metric, definitions) == text
    assert ("points" in write_difference(value, metric, definitions)) is ("%" in text)


def test_intervals_are_on_the_metric_s_scale() -> None:
    assert write_interval([54.0, 56.5], "chrf", {}) == "54–56.5"
    assert write_interval([0.54, 0.565], "accuracy", {}) == "54.0–56.5"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0131, "+1.3 points"), (-0.002, "−0.2 points"), (-0.0004, "0.0 points"), (0.0, "0.0 points"),
     (None, "–")],
)  # fmt: skip
def test_a_difference_that_rounds_to_zero_has_no_sign(value: float | None, text: str) -> None:
    assert write_difference(value, "accuracy", {"accuracy": {"unit": ""}}) == text
