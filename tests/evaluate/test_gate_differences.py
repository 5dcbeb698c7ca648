"""Differences of slices are those of the slices' rows alone, paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgetune.evaluate import TASKS, Graded, Questions
from edgetune.evaluate.differences import Named
from edgetune.evaluate.gate_differences import find_gate_differences
from edgetune.evaluate.paired import compare_scores
from edgetune.evaluate.slice_scores import Asked
from edgetune.evaluate.slices import Slice

COUNT = 60
ATTIC = Slice("room", "attic", np.arange(0, COUNT, 3))
HALL = Slice("room", "hall", np.flatnonzero(np.arange(COUNT) % 3))


def grade(task: str, rows: Sequence[int]) -> dict[str, Graded]:
    """Return what three models' answers to some rows are graded."""
    draw = np.random.default_rng(1)
    expected = [f"{'ab'[n % 2]} {n % 7}" for n in range(COUNT)]
    found = {}
    for name, rate in (("base", 0.4), ("teacher", 0.9), ("q4.gguf", 0.8)):
        right = draw.random(COUNT) < rate
        answers = [
            e if ok else f"a {n % 5}" for n, (e, ok) in enumerate(zip(expected, right, strict=True))
        ]
        questions = Questions(["q"] * len(rows), [expected[n] for n in rows])
        found[name] = TASKS[task].grade(questions, [answers[n] for n in rows])
    return found


def compare(task: str, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    models = [Named(name, "", one) for name, one in grade(task, range(COUNT)).items()]
    return find_gate_differences(models, [ATTIC, HALL], asked, COUNT)


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("classification", "accuracy"), ("classification", "f1_macro"), ("translation", "chrf"),
        ("generation", "rouge_l"), ("translation", "word_error_rate"),
    ],
)  # fmt: skip
def test_a_difference_is_that_of_the_slice_alone(task: str, metric: str) -> None:
    (found,) = compare(task, [Asked(metric, "room=attic", "q4*", "teacher")])
    alone = {
        name: next(score for score in one.scores if score.name == metric)
        for name, one in grade(task, ATTIC.rows.tolist()).items()
    }
    wanted = compare_scores(alone["q4.gguf"], alone["teacher"])
    assert wanted is not None and wanted.estimate.ci95 is not None
    assert found["difference"] == pytest.approx(wanted.estimate.value, abs=1e-12)
    assert found["ci95"] == pytest.approx(wanted.estimate.ci95, abs=1e-12)
    assert found["n"] == wanted.estimate.n == len(ATTIC.rows)


def test_each_pair_and_slice_that_a_gate_names_is_there_once() -> None:
    gate = Asked("accuracy", "room=*", "*", "teacher")
    found = compare(
        "classification", [gate, replace(gate, models="base"), replace(gate, slice=None)]
    )
    names = [(one["candidate"], one["reference"], one["value"]) for one in found]
    assert names == [
        (name, "teacher", part) for part in ("attic", "hall", None) for name in ("base", "q4.gguf")
    ]


def test_without_a_reference_or_a_metric_of_all_rows_there_is_none() -> None:
    assert not compare("classification", [Asked("accuracy", "room=attic")])
    assert not compare("classification", [Asked("perplexity", None, "*", "teacher")])
    assert not compare("classification", [Asked("accuracy", "room=cellar", "*", "teacher")])
