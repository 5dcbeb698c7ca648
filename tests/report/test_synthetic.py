"""What is said of synthetic rows follows from the interval of their difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetune.artifact import Artifact
from edgetune.report.synthetic import find_synthetic


def make(kind: str, facts: dict[str, Any]) -> Artifact:
    return Artifact(Path("x"), "rows", kind, "k", facts=facts)


ROWS = make(
    "synthesize",
    {"task": "answers", "teacher": {"endpoint": "http://h", "model": "m"}, "asked": 10,
     "accepted": 8, "rejected": {"regex": 2}},
)  # fmt: skip


def compare(exact: Any, loss: Any = None) -> dict[str, Any]:
    figures = {"exact_match": exact, "loss": loss}
    scores = {name: {"exact_match": 0.5, "loss": 1.0} for name in ("with", "without")}
    facts = {"tuning": {}, "rows": 9, "synthetic_rows": 8, "scores": scores, "figures": figures}
    found = find_synthetic({"synthesize": ROWS, "control": make("control", facts)})
    assert found is not None
    return found


def figure(low: float, high: float) -> dict[str, Any]:
    return {"difference": (low + high) / 2, "ci95": [low, high], "n": 100}


@pytest.mark.parametrize(
    ("exact", "loss", "verdict"),
    [
        (figure(0.01, 0.05), figure(0.1, 0.2), "won"),
        (figure(-0.05, -0.01), None, "lost"),
        (figure(-0.01, 0.05), figure(-0.2, -0.1), "no significant difference"),
        (figure(0.0, 0.0), figure(-0.2, -0.1), "won"),
        (None, figure(0.1, 0.2), "lost"),
        ({"difference": 0.1, "ci95": None, "n": 1}, None, "no significant difference"),
    ],
)
def test_the_verdict_follows_from_the_interval(exact: Any, loss: Any, verdict: str) -> None:
    assert compare(exact, loss)["verdict"] == verdict


def test_the_sentences_have_the_figures() -> None:
    rows, difference = compare(figure(0.01, 0.05))["lines"]
    assert rows == "8 of 10 rows that m wrote (answers) are in train; rejected: regex 2."
    assert "The synthetic rows lift the model" in difference
    assert "+3.0 points, 95 % interval +1.0 to +5.0" in difference


def test_without_synthetic_rows_nothing_is_said() -> None:
    assert find_synthetic({}) is None
    alone = find_synthetic({"synthesize": ROWS})
    assert alone is not None and alone["verdict"] is None and len(alone["lines"]) == 1
