"""Grade prediction sets: texts on disk to scores, tables, slices, differences and flips.

No model is run, so that a changed task or slice takes seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from edgetune.artifact import hash_json
from edgetune.errors import InputError
from edgetune.evaluate import TASKS, Graded, Questions, Score, Task
from edgetune.evaluate.differences import Named, count_flips, find_differences
from edgetune.evaluate.gate_differences import find_gate_differences
from edgetune.evaluate.guess import guess_task
from edgetune.evaluate.predictions import Answered, Predictions, Question
from edgetune.evaluate.prompts import compare_prompts
from edgetune.evaluate.slice_scores import Asked, grade_slices
from edgetune.evaluate.slices import slice_rows
from edgetune.measure.definitions import RENAMED
from edgetune.recipe import BenchSection, Gate
from edgetune.recipe.grading import OPTION_TASKS

VERSION = 7  # goes up when the same answers are graded otherwise: what was kept is stale
AUTO = "auto"


@dataclass(frozen=True)
class Settings:
    """How answers are graded.

    Attributes:
        task: a name of ``TASKS``, or ``auto``.
        options: of the task.
        slices: columns of the raw rows.
        asked: what gates ask of slices and of differences.
    """

    task: str = AUTO
    options: Mapping[str, Any] = field(default_factory=dict)
    slices: Sequence[str] = ()
    asked: Sequence[Asked] = ()


def find_settings(section: BenchSection, gates: Sequence[Gate] = ()) -> Settings:
    """Return how a recipe has answers graded, for its gates too."""
    options = section.task_options.model_dump(mode="json", exclude_defaults=True)
    asked = [
        Asked(RENAMED.get(one.measurement, one.measurement), one.slice, one.models, one.reference)
        for one in gates
        if one.slice is not None or one.reference is not None
    ]
    return Settings(section.task, options, section.slices, [*dict.fromkeys(asked)])


@dataclass(frozen=True)
class Choice:
    """The task, and why it is that."""

    name: str
    guessed: bool
    why: str


def choose_task(questions: Questions, wanted: str) -> Choice:
    """Return the task that is named, that of an option that is set, or what rows look like."""
    if wanted != AUTO:
        return Choice(wanted, False, "the recipe names it")
    for option in ("metric", "schema_file", "labels", "out_of_scope"):
        if questions.options.get(option):
            why = f"bench.task_options.{option} is set"
            return Choice(OPTION_TASKS[option][0], True, why)
    name, why = guess_task(questions.prompts, questions.expected)
    return Choice(name, True, why)


def grade_predictions(
    predictions: Predictions, settings: Settings,
    columns: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, Any]:  # fmt: skip
    """Grade every model of a prediction set.

    Args:
        predictions: questions and answers.
        settings: the task, its options and the slices.
        columns: of the raw rows, by the file and line that a question came from.

    Returns:
        ``task, rows, confidential, models`` (``name, role, scores, tables, slices, right``),
        ``differences``, ``prompts``, ``gate_differences`` and ``flips``, as JSON values;
        ``rows_sha256`` tells whether others were asked the same, ``commonest`` what answering
        always the same would get right.

    Raises:
        InputError: answers that cannot be read, or that are not as many as the questions.
    """
    asked = [
        replace(one, columns={**one.columns, **columns.get(one.where, {})})
        for one in predictions.questions()
    ]
    questions = Questions(
        [one.prompt for one in asked], [one.expected for one in asked], settings.options
    )
    choice = choose_task(questions, settings.task)
    task = TASKS[choice.name]
    labelled = choice.name == "classification"
    slices = slice_rows(asked, settings.slices, labelled) if asked else []
    graded = []
    digest = hash_rows(asked)
    for model in predictions.models:
        answers = predictions.answers(model)
        if len(answers) != len(asked):
            raise InputError(
                f"{model.name} has {len(answers)} answers to {len(asked)} questions",
                where=str(predictions.folder / model.file), hint="run bench again",
            )  # fmt: skip
        found = task.grade(_with_likelihoods(questions, predictions, model), answers)
        graded.append(Named(model.name, model.role, found))
    parts = grade_slices(graded, slices, settings.asked, len(asked))
    right = {one.name: one.graded.right for one in graded if one.graded.right is not None}
    return {
        "task": {**asdict(choice), "headline": task.headline},
        "rows": len(asked),
        "rows_sha256": digest,
        "commonest": find_commonest(questions.expected),
        "confidential": predictions.confidential,
        "models": [
            {"name": one.name, "role": one.role, "slices": part,
             **_as_entry(one.graded, task, digest)}
            for one, part in zip(graded, parts, strict=True)
        ],
        "differences": find_differences(graded, task.headline),
        "prompts": compare_prompts(graded, task.headline, [one.leaked for one in asked]),
        "gate_differences": find_gate_differences(graded, slices, settings.asked, len(asked)),
        "flips": count_flips(right),
    }  # fmt: skip


def _with_likelihoods(questions: Questions, predictions: Predictions, model: Answered) -> Questions:
    """Return the questions with a model's log likelihoods of labels, where they were measured."""
    if not predictions.labels:
        return questions
    measured = predictions.label_log_probs(model)
    rows = [dict(zip(predictions.labels, row, strict=True)) if row else {} for row in measured]
    known = {"label_log_probs": rows} if any(rows) else {}
    return replace(questions, options={**questions.options, **known})


def _as_entry(found: Graded, task: Task, digest: str) -> dict[str, Any]:
    """Return scores, tables and right answers as JSON values."""
    return {
        "scores": [_as_measurement(score, task, digest) for score in found.scores],
        "tables": [
            {"name": one.name, "title": one.title, "columns": one.columns, "rows": one.rows}
            for one in found.tables
        ],
        "right": None if found.right is None else [int(one) for one in found.right],
    }


def hash_rows(asked: Sequence[Question]) -> str:
    """Return the SHA-256 of questions and right answers: only values of equal rows are paired."""
    return hash_json([[one.prompt, one.expected] for one in asked])


def find_commonest(expected: Sequence[str]) -> float:
    """Return the fraction of rows whose right answer is the commonest one; 0 of no rows."""
    counts = Counter(one.strip() for one in expected)
    return max(counts.values()) / len(expected) if counts else 0.0


def _as_measurement(score: Score, task: Task, digest: str) -> dict[str, Any]:
    """Return a score as the report's measurements are; values by row of the headline alone."""
    estimate = score.estimate
    found: dict[str, Any] = {
        "name": score.name,
        "value": _finite(estimate.value),
        "unit": task.definitions[score.name].unit,
        "n": estimate.n,
        "ci95": list(estimate.ci95) if estimate.ci95 else None,
    }
    if score.rows is not None and score.name == task.headline:
        found |= {"rows": [float(one) for one in score.rows], "rows_sha256": digest}
    return {**found, "note": score.note} if score.note else found


def _finite(value: float) -> float | None:
    """Return a value as JSON can hold it: none where the metric is not defined."""
    return value if math.isfinite(value) else None
