"""Intervals over rows: they cover, they pair rows, and they depend on nothing but the rows."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.measure import bootstrap
from edgetune.measure.bootstrap import Sums, sums_of
from edgetune.measure.statistics import mean, proportion


def ratio(sums: np.ndarray) -> np.ndarray:
    return bootstrap.ratio(sums[:, 0], sums[:, 1])


def ratio_rows(values: np.ndarray) -> Sums:
    return sums_of(np.stack([values, np.ones(len(values))], axis=1), ratio)


def test_equal_rows_form_one_group_and_change_nothing() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0])
    grouped = ratio_rows(values)
    assert len(grouped.statistics) == 2
    single = Sums(np.arange(4), np.stack([values, np.ones(4)], axis=1), ratio)
    assert grouped.value == single.value == 0.75
    one, other = bootstrap.bootstrap(grouped, 20_000), bootstrap.bootstrap(single, 20_000)
    assert one.ci95 == pytest.approx(other.ci95, abs=0.03)


def test_a_mean_of_many_rows_has_the_interval_of_student() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 400)
    found = bootstrap.bootstrap(sums_of(np.stack([values, np.ones(400)], 1), ratio), 20_000)
    assert found.ci95 == pytest.approx(mean(values.tolist()).ci95, abs=6e-4)


def test_the_same_seed_gives_the_same_interval() -> None:
    sums = ratio_rows(np.random.default_rng(1).random(50))
    assert bootstrap.bootstrap(sums) == bootstrap.bootstrap(sums)
    assert bootstrap.bootstrap(sums, seed=1) != bootstrap.bootstrap(sums)


@pytest.mark.parametrize(("value", "successes"), [(0.0, 0), (1.0, 30)])
def test_at_a_bound_the_interval_is_wilsons(value: float, successes: int) -> None:
    found = bootstrap.bounded_mean([value] * 30)
    assert found.ci95 == pytest.approx(proportion(successes, 30).ci95)
    scaled = bootstrap.bounded_mean([100 * value] * 30, (0.0, 100.0))
    assert scaled.ci95 == pytest.approx([100 * end for end in proportion(successes, 30).ci95 or ()])


def test_one_row_has_no_interval_and_none_no_metric() -> None:
    assert bootstrap.bounded_mean([0.5]).ci95 is None
    with pytest.raises(ValueError, match="no rows"):
        bootstrap.bounded_mean([])


def test_pairing_takes_out_what_rows_have_in_common() -> None:
    generator = np.random.default_rng(0)
    common = generator.random(300)
    one, other = common + 0.01 + generator.normal(0, 0.01, 300), common
    paired = bootstrap.bootstrap_difference(ratio_rows(one), ratio_rows(other))
    assert paired.value == pytest.approx((one - other).mean())
    assert paired.ci95 == pytest.approx(mean((one - other).tolist()).ci95, abs=4e-4)
    assert bootstrap.permutation_p_value(ratio_rows(one), ratio_rows(other)) == 1 / 2001


def test_a_model_does_not_differ_from_itself() -> None:
    sums = ratio_rows(np.random.default_rng(0).random(40))
    assert bootstrap.permutation_p_value(sums, sums) == 1.0
    found = bootstrap.bootstrap_difference(sums, sums)
    assert found.value == 0
    assert found.ci95 is not None
    assert found.ci95[0] < 0 < found.ci95[1]


def test_different_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="not as many"):
        bootstrap.bootstrap_difference(ratio_rows(np.ones(3)), ratio_rows(np.ones(4)))


def test_intervals_of_a_skewed_ratio_cover() -> None:
    """A quick form of bench/judge.py's interval_coverage."""
    generator, covered = np.random.default_rng(0), 0
    for trial in range(400):
        values = generator.beta(0.5, 3.0, 60)
        low, high = bootstrap.bootstrap(ratio_rows(values), 500, trial).ci95 or (0.0, 0.0)
        covered += low <= 0.5 / 3.5 <= high
    assert 0.92 <= covered / 400 <= 0.98
