"""Labels by their likelihood: accuracy, calibration error and Brier score.

Shapes: N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgetune.evaluate import Line, Score, Table, score_hits
from edgetune.measure.bootstrap import bootstrap, bounded_mean, ratio, sums_of
from edgetune.measure.definitions import Definition

BINS = 10

DEFINITIONS = {
    "likelihood_accuracy": Definition(
        "Accuracy by likelihood", "",
        "fraction of rows whose label is the likeliest of all labels as the answer, however the "
        "greedy answer reads; the interval is Wilson's",
    ),
    "calibration_error": Definition(
        "Calibration error", "",
        "expected calibration error (Guo et al. 2017): the distance between a label's probability "
        "(softmax of the labels' log likelihoods) and how often it is right, over ten bins of "
        "equal width by the likeliest label's probability, weighted by rows; it is biased upwards "
        "at few rows, and its interval, BCa's over rows, with it",
    ),
    "brier": Definition(
        "Brier score", "",
        "mean over rows of the sum over labels of the squared distance between probability and "
        "truth (Brier 1950): 0 is best, 2 worst; the interval is BCa's bootstrap over rows",
    ),
}  # fmt: skip


def label_probabilities(
    log_probs: Sequence[Mapping[str, float]], labels: Sequence[str]
) -> np.ndarray:
    """Return the probability of each label, shape (N, C): the softmax of log likelihoods.

    A label without a log likelihood has the probability 0.

    Raises:
        ValueError: a row without any.
    """
    scores = np.array([[row.get(label, -np.inf) for label in labels] for row in log_probs])
    highest = scores.max(axis=1, keepdims=True)
    if not np.isfinite(highest).all():
        raise ValueError("a row without the likelihood of a label")
    weights = np.exp(scores - highest)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def grade_probabilities(
    probabilities: np.ndarray, expected: np.ndarray
) -> tuple[list[Score], Table]:
    """Return scores of probabilities, shape (N, C), and the table of their bins.

    Args:
        probabilities: of each label.
        expected: the number of each row's label, shape (N,).
    """
    rows = np.arange(len(expected))
    chosen = probabilities.argmax(axis=1)  # the first of equals
    confidence, right = probabilities[rows, chosen], chosen == expected
    bins = bin_numbers(confidence)
    statistics = np.zeros((len(rows), 2 * BINS))
    statistics[rows, bins] = confidence - right
    statistics[rows, BINS + bins] = 1
    error = sums_of(statistics, _expected_error)
    truth = np.zeros_like(probabilities)
    truth[rows, expected] = 1
    brier, two = ((probabilities - truth) ** 2).sum(axis=1), (0.0, 2.0)
    scores = [
        score_hits("likelihood_accuracy", right.tolist()),
        Score("calibration_error", bootstrap(error), sums=error),
        Score("brier", bounded_mean(brier.tolist(), two), brier.tolist(), bounds=two),
    ]
    return scores, _reliability(confidence, right, bins)


def bin_numbers(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each probability: of ten of equal width, closed above."""
    numbers: np.ndarray = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return numbers


def _expected_error(sums: np.ndarray) -> np.ndarray:
    gaps, counts = sums[:, :BINS], sums[:, BINS:]
    return ratio(np.abs(gaps).sum(axis=1), counts.sum(axis=1))


def _reliability(confidence: np.ndarray, right: np.ndarray, bins: np.ndarray) -> Table:
    lines: list[Line] = []
    for number in range(BINS):
        inside = bins == number
        if inside.any():
            name = f"{number / BINS:.1f} to {(number + 1) / BINS:.1f}"
            row = [float(confidence[inside].mean()), float(right[inside].mean())]
            lines.append([name, int(inside.sum()), *row])
    columns = ["Probability", "Rows", "Mean probability", "Accuracy"]
    return Table("reliability", "Calibration", columns, lines)
