"""Two scores of the same rows are compared by the test that their metric calls for."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.evaluate import TASKS, Questions, Score
from edgetune.evaluate.paired import compare_scores
from edgetune.measure.significance import mcnemar
from edgetune.measure.statistics import Estimate, compare_paired


def of_rows(*values: float) -> Score:
    return Score("any", Estimate(float(np.mean(values)), len(values)), values)


def test_right_and_wrong_answers_are_compared_by_mcnemar() -> None:
    found = compare_scores(of_rows(1, 1, 1, 0, 1), of_rows(0, 0, 1, 1, 0))
    assert found is not None
    assert found.estimate.value == pytest.approx(0.4)
    assert found.p_value == mcnemar(3, 1)
    assert found.rows_needed is not None


def test_other_means_are_compared_by_ranks_and_undefined_rows_are_left_out() -> None:
    found = compare_scores(of_rows(0.5, 0.7, float("nan"), 0.9), of_rows(0.1, 0.2, 0.3, 0.9))
    assert found is not None
    assert found.estimate.n == 3
    assert found.p_value == compare_paired([0.5, 0.7, 0.9], [0.1, 0.2, 0.9]).p_value


def test_equal_models_have_no_difference_and_no_rows_would_show_one() -> None:
    found = compare_scores(of_rows(1, 0, 1), of_rows(1, 0, 1))
    assert found is not None
    assert (found.estimate.value, found.p_value, found.rows_needed) == (0.0, 1.0, None)


def test_functions_of_sums_are_resampled_in_pairs() -> None:
    questions = Questions(["?"] * 60, ["a", "b", "c"] * 20)
    good, bad = ["a", "b", "c"] * 20, ["a", "a", "c"] * 20
    one, other = (TASKS["classification"].grade(questions, answers) for answers in (good, bad))
    pair = [next(s for s in graded.scores if s.name == "f1_macro") for graded in (one, other)]
    found = compare_scores(*pair)
    assert found is not None
    assert found.estimate.value == pytest.approx(1 - (2 / 3 + 0 + 1) / 3)
    assert found.p_value < 0.001
    assert found.estimate.ci95 is not None
    assert 0.2 < found.estimate.ci95[0] < 4 / 9 < found.estimate.ci95[1] < 0.6


def test_scores_without_rows_are_not_compared() -> None:
    assert compare_scores(Score("a", Estimate(1.0, 3)), Score("a", Estimate(1.0, 3))) is None
