"""What a suite keeps of each row is compared where a metric is the mean of it."""

from __future__ import annotations

from typing import Any

import pytest

from edgetune.evaluate.differences import compare_rows
from edgetune.lm_eval.suite import Score, SuiteRun, list_rows


def make_run(values: dict[str, list[Any]], score: dict[str, float]) -> SuiteRun:
    scores = [Score(model, "t", "acc", "none", score[model], None, 3, True) for model in values]
    samples = {
        model: {"t": [{"doc_id": n, "acc": rows[n], "filter": "none"} for n in (2, 0, 1)]}
        for model, rows in values.items()
    }
    return SuiteRun(scores, samples)


def test_rows_come_in_the_order_of_their_numbers() -> None:
    found = list_rows(make_run({"a": [1, 0.0, 0], "b": [True, 1, 0]}, {"a": 1 / 3, "b": 2 / 3}))
    assert found == {("t", "acc", "none"): {"a": [1, 0, 0], "b": [1, 1, 0]}}


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ([1, 0, 0], 0.5),  # a function of all rows, and not their mean
        ([(1.0, 2.0)] * 3, 1.0),  # sums, as of bits per byte
        ([None, 1, 1], 2 / 3),
    ],
)
def test_what_is_no_mean_over_rows_is_not_compared(rows: list[Any], value: float) -> None:
    run = make_run({"a": [1, 1, 0], "b": rows}, {"a": 2 / 3, "b": value})
    assert list_rows(run) == {}, "one model alone has nothing to be compared with"


def test_samples_of_another_filter_are_not_mixed_in() -> None:
    run = make_run({"a": [1, 0, 0], "b": [1, 1, 0]}, {"a": 1 / 3, "b": 2 / 3})
    for samples in run.samples.values():
        samples["t"] += [{"doc_id": 0, "acc": 9, "filter": "other"}]
    assert list_rows(run)["t", "acc", "none"]["a"] == [1, 0, 0]


def test_p_values_are_adjusted_over_all_pairs_of_a_metric() -> None:
    right = [1.0] * 12 + [0.0] * 12
    found = compare_rows("acc", {"a": right, "b": [1.0] * 24, "c": right})
    assert [(one["reference"], one["candidate"]) for one in found] == [
        ("a", "b"), ("a", "c"), ("b", "c"),
    ]  # fmt: skip
    first, same, last = found
    assert first["difference"] == 0.5 == -last["difference"] and same["difference"] == 0
    assert first["p_value"] < 0.001 and same["p_adjusted"] == 1
    assert first["p_adjusted"] == pytest.approx(3 * first["p_value"])
