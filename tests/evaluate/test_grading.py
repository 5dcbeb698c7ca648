"""Answers on disk become scores, slices, differences and flips, without a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.evaluate.grading import Settings, grade_predictions
from edgetune.evaluate.predictions import Predictions, PredictionWriter, Question
from edgetune.measure.statistics import proportion


def write(folder: Path, count: int = 30) -> Predictions:
    questions = [
        Question("q" * (n + 1), str(n % 3), columns={"room": "hall" if n % 2 else "attic"})
        for n in range(count)
    ]
    writer = PredictionWriter(folder, questions)
    writer.add("base", "base", ["0"] * count)
    writer.add("teacher", "teacher", [str(n % 3) for n in range(count)])
    return writer.finish()


def test_every_model_is_graded_on_all_rows(tmp_path: Path) -> None:
    found = grade_predictions(write(tmp_path), Settings("exact", slices=["room"]))
    assert found["task"] == {
        "name": "exact", "guessed": False, "why": "the recipe names it", "headline": "exact_match",
    }  # fmt: skip
    assert found["commonest"] == 1 / 3
    assert found["rows"] == 30 and json.loads(json.dumps(found)) == found
    base, teacher = found["models"]
    (score,) = base["scores"]
    assert (score["name"], score["value"], score["n"]) == ("exact_match", 1 / 3, 30)
    assert score["ci95"] == list(proportion(10, 30).ci95 or ())
    assert score["rows"] == [1.0, 0.0, 0.0] * 10
    assert score["rows_sha256"] == teacher["scores"][0]["rows_sha256"] == found["rows_sha256"]
    slices = {(one["column"], one["value"]): one for one in base["slices"]}
    assert set(slices) == {
        ("length", "short"), ("length", "medium"), ("length", "long"), ("room", "hall"),
        ("room", "attic"),
    }  # fmt: skip
    assert slices["room", "hall"]["n"] == 15 and slices["room", "hall"]["value_of_metric"] == 1 / 3
    assert [one["difference"] for one in found["differences"]] == [pytest.approx(2 / 3)]
    assert [(one["lost"], one["gained"]) for one in found["flips"]] == [(0, 20)]


def test_answers_that_are_missing_are_refused(tmp_path: Path) -> None:
    predictions = write(tmp_path)
    (tmp_path / "base.jsonl").write_text('{"answer": "0"}\n')
    with pytest.raises(InputError, match="base has 1 answers to 30 questions"):
        grade_predictions(predictions, Settings("exact"))
