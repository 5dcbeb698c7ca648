"""Tests of differences against scipy, known values and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from edgetune.measure import significance
from edgetune.measure.statistics import compare_paired


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 1), (9, 9), (3, 20), (400, 350)])
def test_mcnemar_equals_the_binomial_test(gained: int, lost: int) -> None:
    n = gained + lost
    exact = stats.binomtest(gained, n).pvalue if n else 1.0
    assert significance.mcnemar(gained, lost, mid=False) == pytest.approx(exact)
    assert significance.mcnemar(lost, gained) == significance.mcnemar(gained, lost)
    point = stats.binom.pmf(min(gained, lost), n, 0.5) if n else 0.0
    assert significance.mcnemar(gained, lost) == pytest.approx(exact - point if gained != lost
                                                               else 1.0)  # fmt: skip


def test_the_exact_test_is_that_of_signed_ranks() -> None:
    first, second = [1.0] * 9 + [0.0] * 4, [0.0] * 9 + [1.0] * 4
    assert compare_paired(first, second).p_value == pytest.approx(
        significance.mcnemar(9, 4, mid=False)
    )


def test_many_rows_use_the_normal_approximation() -> None:
    assert significance.mcnemar(560, 500, mid=False) == pytest.approx(
        stats.binomtest(560, 1060).pvalue, abs=2e-3
    )
    assert significance.mcnemar(10**6, 10**6) == 1.0


def test_mid_p_keeps_its_level() -> None:
    """Rows that differ are a fair coin: no more than 5 % of tests are below 0.05."""
    generator = np.random.default_rng(0)
    for n in (10, 25, 60):
        found = [significance.mcnemar(int(k), n - int(k)) for k in generator.binomial(n, 0.5, 2000)]
        assert 0.01 < np.mean(np.array(found) <= 0.05) < 0.065


def test_holm_against_its_own_example() -> None:
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    found = significance.holm([0.01, math.nan, 0.5])
    assert found[0] == 0.02
    assert math.isnan(found[1])
    assert significance.holm([]) == []


def test_holm_keeps_the_level_of_a_family() -> None:
    generator = np.random.default_rng(0)
    alarms = [min(significance.holm(generator.random(20).tolist())) <= 0.05 for _ in range(2000)]
    assert 0.035 < np.mean(alarms) < 0.065


def test_so_many_rows_find_the_difference_as_often_as_said() -> None:
    rows = significance.rows_needed(0.05, 0.4)
    assert rows == 503
    generator = np.random.default_rng(0)
    samples = generator.normal(0.05, 0.4, (2000, rows))
    found = stats.ttest_1samp(samples, 0.0, axis=1).pvalue <= 0.05
    assert 0.78 < np.mean(found) < 0.82
    assert significance.rows_needed(0.0, 0.4) is None


def test_so_many_rows_make_an_interval_so_wide() -> None:
    assert significance.rows_for_width(0.02, 0.5) == 2401
    with pytest.raises(ValueError, match="positive"):
        significance.rows_for_width(0.0, 0.5)
