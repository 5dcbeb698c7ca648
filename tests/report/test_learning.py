"""Overfitting is named by its curve; general text by perplexity before and after."""

from __future__ import annotations

from typing import Any

import pytest

from edgetune.report.learning import describe_overfitting, learning_lines
from edgetune.report.steps import figure_lines


def curve(train: list[float], validation: list[float]) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = []
    for number, (loss, eval_loss) in enumerate(zip(train, validation, strict=True), 1):
        points += [
            {"step": 10 * number, "loss": loss},
            {"step": 10 * number, "eval_loss": eval_loss},
        ]
    return points


def test_a_rising_validation_loss_under_a_falling_train_loss_is_named_with_its_gap() -> None:
    said = describe_overfitting(curve([3.0, 2.0, 1.0, 0.5], [3.0, 2.0, 2.2, 2.6]))
    assert "from step 20 to 40" in said and "2.000 to 2.600" in said
    assert "from 2.500 to 0.750, a gap of 1.850" in said


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ([3.0, 2.0, 1.0], [3.0, 2.0, 1.5]),  # both fall
        ([3.0, 2.0, 1.0], [3.0, 2.0, 2.01]),  # as good as level
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),  # both rise: no overfitting, it diverges
        ([3.0], [3.0]),
    ],
)
def test_no_other_curve_is(train: list[float], validation: list[float]) -> None:
    assert describe_overfitting(curve(train, validation)) == ""


def test_general_text_and_overfitting_are_lines_of_the_report() -> None:
    general = {
        "source": "embedded", "texts": 32, "tokens": 900, "perplexity_before": 12.0,
        "perplexity_after": 15.0, "loss_change": 0.223, "ci95": [0.2, 0.25],
    }  # fmt: skip
    report = {
        "curves": [{"role": "sft", "points": curve([3.0, 1.0, 0.5], [2.0, 2.2, 2.4])}],
        "steps": [{"name": "sft", "general": general, "figures": {}}, {"name": "dpo"}],
    }
    first, second = learning_lines(report)
    assert first.startswith("sft: overfitting: from step 10 to 30")
    assert "12 before, 15 after (+0.223 nats per token, +0.200 to +0.250)" in second
    assert figure_lines(report) == [first, second]
