"""Limits and weights take an exact number of rows, by row number, seed and source."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.data.mixing import choose_numbers, count_copies, draw_numbers


def test_draws_depend_on_place_seed_and_source_alone() -> None:
    assert np.array_equal(draw_numbers(100, 7)[:10], draw_numbers(10, 7))
    assert len({tuple(draw_numbers(4, seed, one)) for seed in range(9) for one in range(9)}) == 81


def test_as_many_are_kept_as_the_limit_says() -> None:
    kept = choose_numbers(1000, 300, 0)
    assert kept.sum() == 300
    # A uniform choice: the mean of the kept numbers is within 4 standard errors of the middle.
    assert abs(np.flatnonzero(kept).mean() - 499.5) < 4 * 1000 / (12 * 300) ** 0.5
    assert choose_numbers(5, None, 0).all() and choose_numbers(5, 9, 0).all()
    assert not np.array_equal(kept, choose_numbers(1000, 300, 1))


@pytest.mark.parametrize(("weight", "total"), [(2, 200), (0.5, 50), (2.5, 250), (0.001, 0)])
def test_copies_sum_to_the_weight(weight: float, total: int) -> None:
    copies = count_copies(100, weight, 3)
    assert copies.sum() == total
    assert set(copies.tolist()) <= {int(weight), int(weight) + 1}
