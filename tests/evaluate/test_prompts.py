"""Prompts are compared with the tuned model by the task's metric, without rows of train."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.evaluate import Graded, Score
from edgetune.evaluate.differences import Named
from edgetune.evaluate.prompts import compare_prompts
from edgetune.measure.bootstrap import bootstrap, sums_of
from edgetune.measure.statistics import mean, proportion


def named(name: str, role: str, rows: list[float]) -> Named:
    score = Score("accuracy", mean(rows), rows)
    return Named(name, role, Graded([score], [row > 0 for row in rows]))


def answered(*right: int) -> list[Named]:
    """Models with so many of 40 rows right, the first ones: base, prompted, teacher, merged."""
    names = [("base", "base"), ("base, 4 examples", "prompted"), ("teacher", "teacher"),
             ("merged", "merged")]  # fmt: skip
    return [
        named(name, role, [float(n < count) for n in range(40)])
        for (name, role), count in zip(names, right, strict=False)
    ]


def test_the_tuned_model_is_compared_with_base_and_prompts() -> None:
    found = compare_prompts(answered(4, 20, 30, 32), "accuracy", [False] * 40)
    assert [one["name"] for one in found] == ["base", "base, 4 examples", "merged"]
    assert [one["value"] for one in found] == [0.1, 0.5, 0.8]
    differences = [one["difference"] for one in found]
    assert differences[2] is None and differences[1]["difference"] == pytest.approx(0.3)
    assert differences[1]["ci95"][0] > 0 and found[1]["ci95"] == list(proportion(20, 40).ci95 or ())
    teacher = compare_prompts(answered(4, 20, 30), "accuracy", [False] * 40)
    assert teacher[-1]["name"] == "teacher"


def test_rows_that_train_has_do_not_count() -> None:
    leaked = [n < 10 for n in range(40)]
    base, prompt, tuned = compare_prompts(answered(4, 20, 30), "accuracy", leaked)
    assert [one["n"] for one in (base, prompt, tuned)] == [30] * 3
    assert [one["value"] for one in (base, prompt, tuned)] == [0.0, 1 / 3, pytest.approx(2 / 3)]
    assert prompt["difference"]["n"] == 30
    assert compare_prompts(answered(4, 20, 30), "accuracy", [True] * 40) == []


def test_functions_of_sums_are_taken_of_the_same_rows() -> None:
    def ratio(name: str, role: str, hits: list[float]) -> Named:
        rows = np.array([[hit, 1.0] for hit in hits])
        sums = sums_of(rows, lambda total: total[:, 0] / np.maximum(total[:, 1], 1e-9))
        return Named(name, role, Graded([Score("field_f1", bootstrap(sums), sums=sums)]))

    hits = [[float(n % 4 == 0) for n in range(40)], [float(n % 4 > 0) for n in range(40)]]
    models = [ratio("p", "prompted", hits[0]), ratio("t", "teacher", hits[1])]
    leaked = [n >= 20 for n in range(40)]
    prompt, tuned = compare_prompts(models, "field_f1", leaked)
    assert (prompt["value"], tuned["value"]) == (0.25, 0.75) and tuned["n"] == 20
    assert prompt["difference"]["difference"] == pytest.approx(0.5)


def test_without_a_prompt_or_a_tuned_model_there_is_nothing() -> None:
    models = answered(4, 20, 30)
    assert compare_prompts(models[:2], "accuracy", [False] * 40) == []
    assert compare_prompts([models[0], models[2]], "accuracy", [False] * 40) == []
    assert compare_prompts(models, "chrf", [False] * 40) == []
