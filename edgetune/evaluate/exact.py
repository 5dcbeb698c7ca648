"""Answers that are right where they are the expected text, white space around it aside."""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.evaluate import Graded, Questions, score_hits
from edgetune.measure.definitions import MEASUREMENTS
from edgetune.measure.quality import exact_answers

DEFINITIONS = {"exact_match": MEASUREMENTS["exact_match"]}


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade answers by exact match.

    Raises:
        ValueError: not as many answers as questions, or none.
    """
    right = exact_answers(answers, questions.expected)
    return Graded([score_hits("exact_match", right)], right)
