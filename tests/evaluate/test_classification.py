"""Metrics of labels equal scikit-learn's, on random and on ugly rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from edgetune.errors import InputError
from edgetune.evaluate import TASKS, Graded, Questions

LABELS = ["ja", "nein", "日本", "é clair", "x"]


def grade(expected: list[str], answers: list[str], **options: object) -> Graded:
    questions = Questions(["?"] * len(expected), expected, options)
    return TASKS["classification"].grade(questions, answers)


def values(graded: Graded) -> dict[str, float]:
    return {score.name: score.estimate.value for score in graded.scores}


def random_rows(seed: int) -> tuple[list[str], list[str]]:
    """Rows of some of the labels; answers of all of them, of none, and empty ones."""
    generator = np.random.default_rng(seed)
    n, labels = int(generator.integers(2, 60)), LABELS[: int(generator.integers(1, 6))]
    expected = [str(one) for one in generator.choice(labels, n)]
    answers = [str(one) for one in generator.choice([*LABELS, "", "other"], n)]
    kept = generator.random(n) < generator.random()
    return expected, [a if keep else b for a, b, keep in zip(expected, answers, kept, strict=True)]


@pytest.mark.parametrize("seed", range(25))
def test_scores_equal_scikit_learn(seed: int) -> None:
    expected, answers = random_rows(seed)
    found = values(grade(expected, answers))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(expected, answers))
    labels = sorted(set(expected))
    for how in ("macro", "micro", "weighted"):
        wanted = metrics.precision_recall_fscore_support(
            expected, answers, labels=labels, average=how, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), wanted[:3], strict=True):
            assert found[f"{name}_{how}"] == pytest.approx(value, abs=1e-12), (name, how)


@pytest.mark.parametrize("seed", range(5))
def test_tables_equal_scikit_learn(seed: int) -> None:
    expected, answers = random_rows(seed)
    labels = sorted(set(expected))
    per_class, confusion = grade(expected, answers).tables
    wanted = metrics.precision_recall_fscore_support(
        expected, answers, labels=labels, zero_division=0
    )
    for at, (label, rows, given, *found) in enumerate(per_class.rows):
        assert (label, rows, given) == (labels[at], wanted[3][at], answers.count(labels[at]))
        assert [value or 0.0 for value in found] == pytest.approx([w[at] for w in wanted[:3]])
    matrix = metrics.confusion_matrix(
        [labels.index(one) for one in expected],
        [labels.index(one) if one in labels else len(labels) for one in answers],
        labels=range(len(labels) + 1),
    )
    assert [list(row[1:]) for row in confusion.rows] == matrix[:-1].tolist()
    assert confusion.columns[-1] == "(no label)"


def test_a_label_that_neither_rows_nor_answers_have_is_not_averaged() -> None:
    found = values(grade(["a", "b"], ["a", "b"], labels=["a", "b", "never"]))
    assert found["f1_macro"] == 1.0


def test_all_wrong_and_all_right_have_intervals_with_a_width() -> None:
    for answers, value in ((["a"] * 20, 1.0), ([""] * 20, 0.0)):
        for score in grade(["a"] * 20, answers).scores:
            if score.name == "known_label_rate":
                continue
            assert score.estimate.value == value
            low, high = score.estimate.ci95 or (0.0, 0.0)
            assert 0.1 < high - low < 0.2


def test_case_counts_unless_asked_otherwise() -> None:
    assert grade(["Yes", "no"], ["yes.", " no\n"]).right == [False, True]
    assert grade(["Yes", "no"], ["yes.", " no\n"], ignore_case=True).right == [True, True]
    assert grade(["A", "a"], ["a.", "A"], ignore_case=True).right == [False, False]


def test_out_of_scope_rows_are_counted_apart() -> None:
    expected, answers = ["oos", "oos", "a", "b"], ["oos", "a", "a", "b"]
    found = values(grade(expected, answers, out_of_scope="oos"))
    assert (found["out_of_scope_recall"], found["in_scope_accuracy"]) == (0.5, 1.0)
    several = values(grade(expected, answers, out_of_scope=("oos", "a")))
    assert (several["out_of_scope_recall"], several["in_scope_accuracy"]) == (1.0, 1.0)
    with pytest.raises(InputError, match="did you mean 'oos'"):
        grade(expected, answers, out_of_scope="oss")


def test_calibration_equals_its_definition_and_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    labels, n = ["a", "b", "c"], 200
    scores = generator.normal(0, 2, (n, 3))
    expected = [labels[int(at)] for at in generator.integers(0, 3, n)]
    log_probs = [dict(zip(labels, row.tolist(), strict=True)) for row in scores]
    graded = grade(expected, expected, label_log_probs=log_probs)
    found = values(graded)
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert found["likelihood_accuracy"] == pytest.approx(
        metrics.top_k_accuracy_score(expected, chances, k=1, labels=labels)
    )
    brier = metrics.brier_score_loss(expected, chances, labels=labels, scale_by_half=False)
    assert found["brier"] == pytest.approx(brier)
    confidence = chances.max(axis=1)
    right = np.array(labels)[chances.argmax(axis=1)] == expected
    error = 0.0
    for low in np.arange(10) / 10:
        inside = (confidence > low) & (confidence <= low + 0.1)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert found["calibration_error"] == pytest.approx(error)
    assert sum(row[1] for row in graded.tables[-1].rows) == n


def test_rows_without_likelihoods_are_left_out_of_calibration() -> None:
    rows = [{"a": -0.1, "b": -3.0}, None, {"a": -0.1, "b": -3.0}]
    graded = grade(["a", "a", "b"], ["a", "a", "b"], label_log_probs=rows)
    found = {score.name: score.estimate for score in graded.scores}
    assert (found["likelihood_accuracy"].value, found["likelihood_accuracy"].n) == (0.5, 2)
    assert found["accuracy"].n == 3


def test_many_labels_list_their_most_frequent_mistakes() -> None:
    expected = [f"l{at}" for at in range(300)]
    answers = ["l1", *expected[1:3], "", *expected[4:]]
    table = grade(expected, answers).tables[1]
    assert sorted(table.rows) == [["l0", "l1", 1], ["l3", "(no label)", 1]]
