"""Two versions of a file's codes: which one ships is no matter of chance."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.quantize.held_out import compare_rows

COUNTS = [20, 35, 8, 51, 12, 40, 27, 33]


def test_a_mean_that_falls_by_one_row_alone_is_not_kept() -> None:
    before = np.array(COUNTS) * 0.01
    after = before * 1.02
    after[3] -= 0.2  # of 0.51
    found = compare_rows(before, after, COUNTS)
    assert found.after < found.before and not found.kept
    low, high = found.facts["kl_difference_ci95"]
    assert low < found.facts["kl_difference"] < 0 < high
    assert "not kept" in str(found)


def test_rows_are_compared_in_pairs() -> None:
    """A hundredth better in every row, where rows differ sixfold."""
    before = np.array(COUNTS) * np.geomspace(1e-3, 6e-3, len(COUNTS))
    found = compare_rows(before, 0.99 * before + 1e-7, COUNTS)
    assert found.kept and found.facts["rows"] == 8 and found.facts["positions"] == sum(COUNTS)
    assert found.difference.value == pytest.approx(found.after - found.before)
    assert not compare_rows(before, before, COUNTS).kept


def test_nan_or_a_single_row_is_not_kept() -> None:
    before, after = np.array([1.0, 1.0, 1.0]), np.array([0.5, np.nan, 0.5])
    assert not compare_rows(before, after, [9, 9, 9]).kept
    assert not compare_rows(before[:1], after[:1], [9]).kept
