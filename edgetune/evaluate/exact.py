"""Answers that are right where they are the expected text, white space around it aside."""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.evaluate import Graded, Questions, Score
from edgetune.measure.definitions import MEASUREMENTS
from edgetune.measure.quality import exact_answers
from edgetune.measure.statistics import proportion

DEFINITIONS = {"exact_match": MEASUREMENTS["exact_match"]}


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade answers by exact match.

    Raises:
        ValueError: not as many answers as questions, or none.
    """
    right = exact_answers(answers, questions.expected)
    score = Score("exact_match", proportion(sum(right), len(right)), [float(one) for one in right])
    return Graded([score], right)
