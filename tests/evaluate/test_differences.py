"""Models are compared on the same rows, each with what its question is answered by."""

from __future__ import annotations

import math

import pytest

from edgetune.evaluate import Graded, Score
from edgetune.evaluate.differences import Named, count_flips, find_differences, find_pairs
from edgetune.measure.statistics import Estimate


def named(name: str, role: str, rows: list[float]) -> Named:
    score = Score("exact_match", Estimate(sum(rows) / len(rows), len(rows)), rows)
    return Named(name, role, Graded([score], [row > 0 for row in rows]))


def test_each_model_is_compared_with_what_it_comes_from() -> None:
    roles = ["base", "prompted", "teacher", "baseline", "merged", "file"]
    models = [named(role, role, [1.0]) for role in roles]
    assert [(one.name, other.name) for one, other in find_pairs(models)] == [
        ("base", "teacher"), ("prompted", "teacher"), ("teacher", "baseline"), ("base", "merged"),
        ("prompted", "merged"), ("teacher", "merged"), ("baseline", "merged"), ("base", "file"),
        ("teacher", "file"), ("merged", "file"),
    ]  # fmt: skip


def test_a_difference_is_of_the_candidate_less_the_reference() -> None:
    models = [
        named("base", "base", [0.0] * 20),
        named("teacher", "teacher", [1.0] * 15 + [0.0] * 5),
    ]
    (found,) = find_differences(models, "exact_match")
    assert (found["reference"], found["candidate"], found["n"]) == ("base", "teacher", 20)
    assert found["difference"] == 0.75
    assert 0.4 < found["ci95"][0] < 0.75 < found["ci95"][1] < 0.9
    assert found["p_value"] == pytest.approx(0.5**15)  # McNemar's mid-p


def test_p_values_are_corrected_for_the_number_of_comparisons() -> None:
    base = named("base", "base", [0.0] * 12)
    teacher = named("teacher", "teacher", [1.0] * 12)
    files = [named(f"f{n}", "file", [1.0] * 12) for n in range(3)]
    found = find_differences([base, teacher, *files], "exact_match")
    assert len(found) == 1 + 3 * 2
    against_base = [one for one in found if one["reference"] == "base"]
    assert all(one["p_adjusted"] == pytest.approx(7 * one["p_value"]) for one in against_base)
    assert all(one["p_adjusted"] == 1 for one in found if one["reference"] == "teacher")


def test_rows_without_a_value_are_left_out_of_both() -> None:
    one = named("base", "base", [0.0, math.nan, 1.0, 0.25])
    other = named("teacher", "teacher", [1.0, 1.0, math.nan, 0.75])
    (found,) = find_differences([one, other], "exact_match")
    assert (found["difference"], found["n"]) == (0.75, 2)


def test_flips_add_up_to_the_rows() -> None:
    right = {
        "base": [False, True, True, False, False],
        "teacher": [True, False, True, False, True],
        "file": [True, False, False, False, True],
    }
    found = {(one["reference"], one["candidate"]): one for one in count_flips(right)}
    assert list(found) == [("base", "teacher"), ("base", "file"), ("teacher", "file")]
    assert (
        found["base", "teacher"] | {"lost": 1, "gained": 2, "both_right": 1, "both_wrong": 1}
        == (found["base", "teacher"])
    )
    assert (found["teacher", "file"]["lost"], found["teacher", "file"]["gained"]) == (1, 0)


def test_of_other_means_the_headline_alone_is_compared() -> None:
    models = [named(role, role, [0.5, 0.25, 1.0]) for role in ("base", "teacher")]
    assert len(find_differences(models, "exact_match")) == 1
    assert find_differences(models, "accuracy") == []
