"""Compare two scores of one metric on the same rows: interval, test, and rows that would decide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgetune.evaluate import Score
from edgetune.measure.bootstrap import bootstrap_difference, permutation_p_value
from edgetune.measure.significance import mcnemar, rows_needed
from edgetune.measure.statistics import Z95, Estimate, compare_paired, mean, paired_difference


@dataclass(frozen=True)
class Difference:
    """One score less another on the same rows.

    Attributes:
        estimate: the difference with its 95 % interval, and the rows it is over.
        p_value: two-sided. Of right and wrong answers it is McNemar's mid-p, of other means over
            rows Wilcoxon's, of functions of sums (F1, BLEU) that of a paired permutation test.
        rows_needed: rows with which a difference of this size would be found at 95 % certainty in
            four of five tests; ``None`` where there is no difference.
    """

    estimate: Estimate
    p_value: float
    rows_needed: int | None


def compare_scores(candidate: Score, reference: Score) -> Difference | None:
    """Compare a candidate with a reference; ``None`` where there is nothing to pair.

    Rows of which either has no value (NaN) are left out.

    Raises:
        ValueError: not as many rows of each.
    """
    if candidate.rows is not None and reference.rows is not None:
        if len(candidate.rows) != len(reference.rows):
            raise ValueError("not as many rows of each")
        values = [np.asarray(one.rows, np.float64) for one in (candidate, reference)]
        pairs = _find_known(np.stack(values, axis=1))
        return _compare_rows(pairs) if len(pairs) else None
    if candidate.sums is not None and reference.sums is not None:
        estimate = bootstrap_difference(candidate.sums, reference.sums)
        p_value = permutation_p_value(candidate.sums, reference.sums)
        deviation = math.nan
        if estimate.ci95 is not None:
            half = (estimate.ci95[1] - estimate.ci95[0]) / 2
            deviation = half / Z95 * math.sqrt(estimate.n)
        return Difference(estimate, p_value, rows_needed(estimate.value, deviation))
    return None


def estimate_pairs(pairs: np.ndarray) -> Estimate | None:
    """Return the mean of one model's values less another's, shape (N, 2), without a test.

    Rows of which either has no value (NaN) are left out; ``None`` where none is left.
    """
    known = _find_known(pairs)
    if not len(known):
        return None
    if np.isin(known, (0.0, 1.0)).all():
        return paired_difference((known[:, 0] > 0).tolist(), (known[:, 1] > 0).tolist())
    return mean((known[:, 0] - known[:, 1]).tolist())


def _find_known(pairs: np.ndarray) -> np.ndarray:
    known: np.ndarray = pairs[~np.isnan(pairs).any(axis=1)]
    return known


def _compare_rows(pairs: np.ndarray) -> Difference:
    """Compare values of each row, shape (N, 2)."""
    one, other = pairs[:, 0], pairs[:, 1]
    deviation = float(np.std(one - other))
    if np.isin(pairs, (0.0, 1.0)).all():
        estimate = paired_difference((one > 0).tolist(), (other > 0).tolist())
        gained, lost = int((one > other).sum()), int((one < other).sum())
        p_value = mcnemar(gained, lost)
    else:
        paired = compare_paired(one.tolist(), other.tolist())
        estimate, p_value = paired.difference, paired.p_value
    return Difference(estimate, p_value, rows_needed(estimate.value, deviation))
