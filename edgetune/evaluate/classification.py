"""Answers that are one label of a list.

Options: ``labels`` (absent: those that rows expect), ``out_of_scope`` (labels of what belongs
to no other), ``ignore_case``, and ``label_log_probs``: for each row a mapping of labels to the log
likelihood of each as the answer; rows without one are left out of what is computed of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgetune.errors import InputError, nearest
from edgetune.evaluate import Graded, Line, Questions, Score, Table, calibration, score_hits
from edgetune.evaluate.confusion import (
    OTHER,
    average,
    class_sums,
    count_pairs,
    label_numbers,
    per_class,
)
from edgetune.measure.bootstrap import bootstrap_each
from edgetune.measure.definitions import Definition
from edgetune.measure.statistics import Estimate, proportion

MATRIX_LABELS = 200  # beyond, the confusion matrix lists its cells that are mistakes
CONFUSIONS = 50  # of them, the most frequent

_OVER = {
    "macro": "mean over labels that rows or answers have",
    "weighted": "mean over labels, weighted by the rows of each",
    "micro": "over all rows at once",
}
_WHAT = {
    "precision": "of the answers that are a label, the fraction that is right",
    "recall": "of the rows of a label, the fraction that is answered right",
    "f1": "harmonic mean of precision and recall",
}
_TITLES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}

DEFINITIONS = {
    "accuracy": Definition(
        "Accuracy", "",
        "fraction of rows whose answer is the row's label, outer white space aside; the interval "
        "is Wilson's",
    ),
    **{
        f"{name}_{how}": Definition(
            f"{_TITLES[name]}, {how}", "",
            f"{what}: {over}, as scikit-learn defines it, an answer that is no label counting as a "
            "wrong one; the interval is BCa's bootstrap over rows",
        )
        for name, what in _WHAT.items() for how, over in _OVER.items()
    },
    "known_label_rate": Definition(
        "Answers that are labels", "",
        "fraction of answers that are a label of the list, right or wrong; the interval is "
        "Wilson's",
    ),
    "out_of_scope_recall": Definition(
        "Out-of-scope recall", "",
        "fraction of the rows of the labels bench.task_options.out_of_scope that are answered by "
        "one of these; the interval is Wilson's",
    ),
    "in_scope_accuracy": Definition(
        "In-scope accuracy", "",
        "accuracy of the rows of all other labels than out_of_scope; the interval is Wilson's",
    ),
    **calibration.DEFINITIONS,
}  # fmt: skip


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade labels.

    Raises:
        InputError: an out-of-scope label that no row has and no list names.
        ValueError: not as many answers as questions, or none.
    """
    if len(answers) != len(questions.expected):
        raise ValueError("not as many answers as questions")
    options = questions.options
    labels = find_labels(questions)
    ignore_case = bool(options.get("ignore_case", False))
    expected = label_numbers(questions.expected, labels, len(labels))
    answered = label_numbers(answers, labels, len(labels), ignore_case)
    right = (expected == answered).tolist()
    scores = [score_hits("accuracy", right)]
    scores += _averages(expected, answered, len(labels))
    scores.append(score_hits("known_label_rate", (answered < len(labels)).tolist()))
    if options.get("out_of_scope"):
        scores += _scope_scores(options["out_of_scope"], labels, expected, answered)
    tables = [_per_class(expected, answered, labels), _matrix(expected, answered, labels)]
    if options.get("label_log_probs"):
        measured = [at for at, row in enumerate(options["label_log_probs"]) if row]
        rows = [options["label_log_probs"][at] for at in measured]
        chances = calibration.label_probabilities(rows, labels)
        found, table = calibration.grade_probabilities(chances, expected[measured])
        scores += found
        tables.append(table)
    return Graded(scores, right, tables)


def _averages(expected: np.ndarray, answered: np.ndarray, labels: int) -> list[Score]:
    formulas = {
        f"{name}_{how}": average(name, how)
        for how in ("macro", "weighted", "micro")
        for name in ("f1", "precision", "recall")
    }
    sums = class_sums(expected, answered, labels, average("f1", "macro"))
    estimates = bootstrap_each(sums, list(formulas.values()))
    return [
        Score(name, estimate, sums=replace(sums, formula=formula))
        for (name, formula), estimate in zip(formulas.items(), estimates, strict=True)
    ]


def find_labels(questions: Questions) -> list[str]:
    """Return the labels: the option's in its order, then others that rows expect, sorted."""
    named = list(
        dict.fromkeys(str(label).strip() for label in questions.options.get("labels") or ())
    )
    seen = {text.strip() for text in questions.expected}
    return [*named, *sorted(seen - set(named))]


def _scope_scores(
    given: str | Sequence[str], labels: Sequence[str], expected: np.ndarray, answered: np.ndarray
) -> list[Score]:
    numbers = []
    for name in [given] if isinstance(given, str) else given:
        if name not in labels:
            raise InputError(
                f"no row has the label '{name}'{nearest(name, labels)}",
                where="bench.task_options.out_of_scope",
            )
        numbers.append(labels.index(name))
    outside, right = np.isin(expected, numbers), expected == answered
    refused = np.isin(answered, numbers)
    return [
        _part("out_of_scope_recall", refused, outside),
        _part("in_scope_accuracy", right, ~outside),
    ]


def _part(name: str, hits: np.ndarray, part: np.ndarray) -> Score:
    """Return the fraction of a part of the rows; NaN of none, and for each row outside it."""
    found, n = hits[part], int(part.sum())
    estimate = proportion(int(found.sum()), n) if n else Estimate(float("nan"), 0)
    return Score(name, estimate, np.where(part, hits, np.nan).tolist())


def _per_class(expected: np.ndarray, answered: np.ndarray, labels: Sequence[str]) -> Table:
    sums = class_sums(expected, answered, len(labels), average("f1", "macro"))
    totals = (sums.counts @ sums.statistics)[None]
    precision, recall, f1 = (values[0] for values in per_class(totals))
    _, given, wanted = np.split(totals[0].astype(int), 3)
    lines: list[Line] = []
    for at, label in enumerate(labels):
        line = [
            float(precision[at]) if given[at] else None,
            float(recall[at]) if wanted[at] else None,
            float(f1[at]) if given[at] + wanted[at] else None,
        ]
        lines.append([label, int(wanted[at]), int(given[at]), *line])
    columns = ["Label", "Rows", "Answers", "Precision", "Recall", "F1"]
    return Table("per_class", "Per label", columns, lines)


def _matrix(expected: np.ndarray, answered: np.ndarray, labels: Sequence[str]) -> Table:
    """Return the confusion matrix: rows are the rows' labels, columns the answers."""
    counts = count_pairs(expected, answered, len(labels))
    names = [*labels, OTHER]
    if len(labels) <= MATRIX_LABELS:
        lines: list[Line] = [
            [name, *map(int, row)] for name, row in zip(labels, counts, strict=True)
        ]
        return Table("confusion", "Confusion matrix", ["Label", *names], lines)
    wrong = counts.copy()
    wrong[np.arange(len(labels)), np.arange(len(labels))] = 0
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    cells = [divmod(int(at), len(names)) for at in order]
    most: list[Line] = [
        [labels[row], names[column], int(wrong[row, column])]
        for row, column in cells
        if wrong[row, column]
    ]
    return Table("confusions", "Most frequent mistakes", ["Label", "Answer", "Rows"], most)
