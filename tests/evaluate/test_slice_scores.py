"""A slice has the metric and the interval that its rows alone would have."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetune.evaluate import TASKS, Questions
from edgetune.evaluate.grading import Settings, find_settings, grade_predictions
from edgetune.evaluate.predictions import PredictionWriter, Question
from edgetune.evaluate.slice_scores import Asked, estimate_rows
from edgetune.measure.statistics import proportion
from edgetune.recipe import BenchSection, Gate

COUNT = 80


def make_texts(task: str) -> tuple[list[str], list[str]]:
    """Return right answers and a model's, some of which are wrong."""
    draw = np.random.default_rng(3)
    words = ["sun", "moon", "star", "sky", "rain"]
    expected, answers = [], []
    for _ in range(COUNT):
        text = [str(word) for word in draw.choice(words, int(draw.integers(2, 6)))]
        other = [word if draw.random() < 0.7 else "fog" for word in text]
        if task == "extraction":
            expected.append(json.dumps({"first": text[0], "all": text}))
            answers.append(json.dumps({"first": text[0], "all": other}))
        elif task == "classification":
            expected.append(text[0])
            answers.append(other[0])
        else:
            expected.append(" ".join(text))
            answers.append(" ".join(other))
    return expected, answers


def grade(folder: Path, task: str, asked: tuple[Asked, ...] = ()) -> tuple[Any, Any, Any]:
    """Return the slices by room, and what the attic's rows alone are graded."""
    expected, answers = make_texts(task)
    questions = [
        Question("q", one, columns={"room": "hall" if n % 3 else "attic"})
        for n, one in enumerate(expected)
    ]
    writer = PredictionWriter(folder, questions)
    writer.add("base", "base", answers)
    found = grade_predictions(writer.finish(), Settings(task, slices=["room"], asked=asked))
    (model,) = found["models"]
    alone = TASKS[task].grade(Questions(["q"] * 27, expected[::3]), answers[::3])
    return model["slices"], {one.name: one for one in alone.scores}, found


@pytest.mark.parametrize(
    "task", ["extraction", "translation", "generation", "classification", "command", "exact"]
)
def test_a_slice_has_the_headline_of_its_rows_alone(task: str, tmp_path: Path) -> None:
    slices, alone, found = grade(tmp_path, task)
    (part,) = [one for one in slices if one["value"] == "attic"]
    assert part["metric"] == found["task"]["headline"] == next(iter(alone))
    wanted = alone[part["metric"]].estimate
    assert part["n"] == wanted.n == 27
    assert part["value_of_metric"] == pytest.approx(wanted.value, abs=1e-12)
    assert part["ci95"] == pytest.approx(wanted.ci95, abs=1e-12)
    assert part["ci95"][0] < part["value_of_metric"] < part["ci95"][1]


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("classification", "f1_macro"), ("classification", "recall_weighted"),
        ("extraction", "field_recall"), ("translation", "bleu"), ("command", "command_token_f1"),
    ],
)  # fmt: skip
def test_a_slice_has_other_metrics_where_a_gate_asks(
    task: str, metric: str, tmp_path: Path
) -> None:
    slices, alone, found = grade(tmp_path, task, (Asked(metric, "room=at*"),))
    named = [(one["value"], one["metric"]) for one in slices if one["column"] == "room"]
    headline = found["task"]["headline"]
    assert named == [("attic", headline), ("attic", metric), ("hall", headline)]
    (part,) = [one for one in slices if one["metric"] == metric]
    wanted = alone[metric].estimate
    assert part["value_of_metric"] == pytest.approx(wanted.value, abs=1e-12)
    assert part["ci95"] == pytest.approx(wanted.ci95, abs=1e-12)


def test_rows_without_a_value_are_left_out_of_a_slice(tmp_path: Path) -> None:
    """Out-of-scope recall is of the rows of one label, wherever they are."""
    labels = ["a", "oos", "b", "oos"] * 5
    questions = [
        Question("q", one, columns={"half": ["first", "second"][n >= 10]})
        for n, one in enumerate(labels)
    ]
    writer = PredictionWriter(tmp_path, questions)
    writer.add("base", "base", [*labels[:10], *["a"] * 10])
    options = {"out_of_scope": ["oos"]}
    asked = [Asked("out_of_scope_recall", "*")]
    settings = Settings("classification", options, ["half"], asked)
    found = grade_predictions(writer.finish(), settings)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    parts = {
        one["value"]: one
        for one in found["models"][0]["slices"]
        if one["metric"] == "out_of_scope_recall"
    }
    assert (parts["first"]["n"], parts["first"]["value_of_metric"]) == (5, 1.0)
    assert (parts["second"]["n"], parts["second"]["value_of_metric"]) == (5, 0.0)
    assert (parts["a"]["n"], parts["a"]["value_of_metric"]) == (0, None)


def test_a_metric_of_fewer_rows_than_were_asked_is_of_no_slice(tmp_path: Path) -> None:
    questions = [Question("q", "ab"[n % 2], columns={"room": "hall"}) for n in range(8)]
    writer = PredictionWriter(tmp_path, questions, labels=["a", "b"])
    writer.add("base", "base", ["a"] * 8, [[-1.0, -2.0]] * 4)
    settings = Settings("classification", slices=["room"], asked=[Asked("brier", "*")])
    (model,) = grade_predictions(writer.finish(), settings)["models"]
    assert "brier" in [one["name"] for one in model["scores"]]
    assert {one["metric"] for one in model["slices"]} == {"accuracy"}


def test_gates_ask_for_what_they_name_and_limits_change_nothing() -> None:
    gate = {"measurement": "f1_macro", "slice": "room=*"}
    one = find_settings(BenchSection(), [Gate.model_validate({**gate, "min": 0.5})])
    two = find_settings(BenchSection(), [Gate.model_validate({**gate, "min": 0.9})])
    assert one == two and [*one.asked] == [Asked("f1_macro", "room=*")]
    assert not find_settings(BenchSection(), [Gate(measurement="accuracy", min=0.5)]).asked


def test_a_mean_over_rows_leaves_out_those_without_a_value() -> None:
    assert estimate_rows([1.0, 0.0, math.nan, 1.0]) == proportion(2, 3)
    assert estimate_rows([0.5, 1.0, 0.75]).value == pytest.approx(0.75)
    assert estimate_rows([math.nan]).n == 0
