"""Exact match as a task: the rows that are right, and their proportion."""

import pytest

from edgetune.evaluate import TASKS, Questions


def test_rows_and_proportion_agree() -> None:
    questions = Questions(["a", "b", "c"], ["one", "two", "three"])
    graded = TASKS["exact"].grade(questions, [" one\n", "Two", "three"])
    assert graded.right == [True, False, True]
    (score,) = graded.scores
    assert score.rows == [1.0, 0.0, 1.0]
    assert score.estimate.value == pytest.approx(2 / 3)
    assert score.name == TASKS["exact"].headline
    assert score.name in TASKS["exact"].definitions
