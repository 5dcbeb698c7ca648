"""Scores of a function of the user, which runs in a process with limits.

Options: ``metric``, ``FILE.py:FUNCTION``, and ``metric_seconds``, how long a call may take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from edgetune.errors import InputError
from edgetune.evaluate import Graded, Questions, Score
from edgetune.measure.definitions import Definition
from edgetune.measure.statistics import mean, proportion
from edgetune.runtimes.python_function import FUNCTION, PythonFunction

SECONDS = 60.0
WHERE = "bench.task_options.metric"

DEFINITIONS = {
    "custom_score": Definition(
        "Custom score", "",
        "mean over rows of what the function bench.task_options.metric returns; the interval is "
        "Student's over rows, Wilson's where every score is 0 or 1",
    ),
}  # fmt: skip


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade answers by the function of a file.

    It is called with the lists ``prompts``, ``answers`` and ``expected`` (texts), and returns a
    number for each answer. Where all are 0 or 1, those of 1 count as right.

    Raises:
        InputError: no function is named, it fails, or a score is no finite number.
        ValueError: not as many answers as questions, or none.
    """
    if len(answers) != len(questions.expected):
        raise ValueError("not as many answers as questions")
    given = str(questions.options.get("metric") or "")
    match = FUNCTION.fullmatch(given)
    if match is None:
        raise InputError(
            f"the metric '{given}' is no function" if given else "no metric is named",
            where=WHERE,
            hint="write FILE.py:FUNCTION",
        )
    seconds = float(questions.options.get("metric_seconds") or SECONDS)
    function = PythonFunction(Path(match["file"]), match["name"], seconds, "the metric")
    try:
        job = {
            "prompts": list(questions.prompts),
            "answers": list(answers),
            "expected": list(questions.expected),
        }
        rows = function(job, len(answers), "")
    finally:
        function.close()
    for at, value in enumerate(rows):
        if not math.isfinite(value):
            raise InputError(f"the metric gives {value} for answer {at + 1}", where=given)
    binary = all(value in (0.0, 1.0) for value in rows)
    right = [value == 1.0 for value in rows] if binary else None
    estimate = proportion(sum(right), len(right)) if right else mean(rows)
    return Graded([Score("custom_score", estimate, rows)], right)
