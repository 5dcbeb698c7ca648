"""A score is kept where no more than 2 points of a fraction, or 3 % of another metric, are lost."""

from __future__ import annotations

from typing import Any

import pytest

from edgetune.report.kept import find_kept, find_lowness, name_metric


def kept(metric: str, value: float, ends: list[float] | None, reference: float) -> Any:
    pair = {"metric": metric, "difference": value, "ci95": ends, "n": 100}
    return find_kept(pair, {"name": metric, "value": reference}, {})


@pytest.mark.parametrize(
    ("metric", "value", "ends", "reference", "outcome", "within"),
    [
        ("accuracy", -0.01, [-0.015, -0.005], 0.9, "kept", True),
        ("accuracy", -0.01, [-0.03, 0.01], 0.9, "open", True),
        ("accuracy", -0.05, [-0.11, 0.01], 0.9, "open", False),
        ("accuracy", -0.05, [-0.09, -0.01], 0.9, "lost", False),
        ("accuracy", -0.02, None, 0.9, "open", True),
        ("accuracy", 0.943 - 0.963, None, 0.963, "open", True),  # rounding is not a loss
        ("chrf", -1.4, [-1.45, -1.2], 50.0, "kept", True),  # 3 % of 50 are 1.5
        ("chrf", -1.6, [-1.8, -1.4], 50.0, "lost", False),
        ("perplexity", 0.02, [0.01, 0.03], 1.2, "kept", True),
        ("perplexity", 0.2, [0.1, 0.3], 1.2, "lost", False),
    ],
)
def test_the_interval_says_what_is_certain(
    metric: str,
    value: float,
    ends: list[float] | None,
    reference: float,
    outcome: str,
    within: bool,
) -> None:
    found = kept(metric, value, ends, reference)
    assert (found.outcome, found.within) == (outcome, within)


def test_the_tolerated_loss_is_said_in_the_metric_s_terms() -> None:
    assert kept("accuracy", 0.0, None, 0.9).tolerated == "2 points"
    assert kept("chrf", 0.0, None, 50.0).tolerated == "3\u202f%"


@pytest.mark.parametrize(
    ("metric", "value", "ends", "commonest", "lowness"),
    [
        ("accuracy", 0.9, [0.87, 0.93], 0.1, ""),
        ("accuracy", 0.04, [0.02, 0.07], 0.0, "low"),
        ("accuracy", 0.06, [0.0, 0.2], 0.0, "low"),
        ("accuracy", 0.52, [0.46, 0.58], 0.5, "chance"),
        ("chrf", 3.0, [2.0, 4.0], 0.9, ""),
        ("custom_score", -4.0, [-5.0, -3.0], 0.9, ""),  # minus an error: its own scale
        ("custom_score", 0.1, [-0.1, 0.3], 0.0, "low"),
        ("perplexity", 0.0, None, 0.0, ""),
    ],
)
def test_a_score_near_chance_cannot_be_kept(
    metric: str, value: float, ends: list[float] | None, commonest: float, lowness: str
) -> None:
    reference = {"name": metric, "value": value, "ci95": ends}
    assert find_lowness(reference, commonest, {}) == lowness


def test_titles_keep_their_capitals_within_a_sentence() -> None:
    definitions = {"rouge_l": {"title": "ROUGE-L"}, "field_f1": {"title": "Field F1"}}
    assert [name_metric(name, definitions) for name in ("rouge_l", "field_f1", "exact_match")] == [
        "ROUGE-L", "field F1", "exact match",
    ]  # fmt: skip
