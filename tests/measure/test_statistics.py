"""Intervals against published values and against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.measure import statistics


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson(successes: int, n: int, low: float, high: float) -> None:
    estimate = statistics.proportion(successes, n)
    assert estimate.value == successes / n
    assert estimate.n == n
    assert estimate.ci95 == pytest.approx((low, high), abs=6e-5)


def test_rows_not_tokens_are_sampled() -> None:
    """Rows that agree within themselves: a token count would make the interval far too small."""
    generator = np.random.default_rng(0)
    covered, rows, trials = 0, 60, 400
    for _ in range(trials):
        counts = generator.integers(5, 40, rows)
        row_means = generator.normal(1.0, 0.5, rows)
        estimate = statistics.ratio_of_sums(list(row_means * counts), list(counts))
        assert estimate.ci95 is not None
        covered += estimate.ci95[0] <= 1.0 <= estimate.ci95[1]
    assert 0.91 <= covered / trials <= 0.97


def test_ratio_weighs_rows_by_their_positions() -> None:
    assert statistics.ratio_of_sums([10.0, 1.0], [10, 9]).value == pytest.approx(11 / 19)


def test_bits_per_byte_are_nats_over_bytes_with_the_interval_of_a_ratio() -> None:
    nll = [3.0, 5.0, 1.5]
    found = statistics.bits_per_byte(nll, [4, 9, 2])
    assert found.value == pytest.approx(9.5 / np.log(2) / 15)
    assert found == statistics.ratio_of_sums([one / np.log(2) for one in nll], [4, 9, 2])
    with pytest.raises(ValueError, match="no positions"):
        statistics.bits_per_byte([1.0], [0])


def test_one_row_has_no_interval() -> None:
    assert statistics.ratio_of_sums([3.0], [2]) == statistics.Estimate(1.5, 1, None)


@pytest.mark.parametrize(
    ("degrees", "quantile"),  # Abramowitz and Stegun 1964, table 26.10, and R's qt(0.975, degrees)
    [(1, 12.7062), (2, 4.30265), (4, 2.77645), (15, 2.13145), (16, 2.119905), (17, 2.109816),
     (20, 2.085963), (30, 2.042272), (60, 2.000298), (120, 1.979930), (1000, 1.962339)],
)  # fmt: skip
def test_quantiles_of_student_s_t(degrees: int, quantile: float) -> None:
    assert statistics.t95(degrees) == pytest.approx(quantile, abs=2e-5)


def test_five_repeats_cover_what_they_claim() -> None:
    """With the normal quantile these intervals cover 88 %."""
    repeats = np.random.default_rng(1).normal(100.0, 7.0, (4000, 5))
    covered = 0
    for values in repeats:
        low, high = statistics.mean(values.tolist()).ci95 or (0.0, 0.0)
        covered += low <= 100.0 <= high
    assert 0.94 <= covered / len(repeats) <= 0.96


def test_mean_is_the_textbook_interval() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    half = 3.182446 * np.std(values, ddof=1) / 2  # Student's t with three degrees of freedom
    assert statistics.mean(values).ci95 == pytest.approx((4 - half, 4 + half))


def test_signed_rank_is_the_published_one() -> None:
    # Wilcoxon 1945: eight pairs, smaller sum of ranks 5; ties at their mean rank and zeros out.
    paired = statistics.compare_paired([1, 2, 3, 4, 5, 6, 7, 8], [2, 4, 0, 0, 0, 0, 0, 0])
    assert paired.p_value == pytest.approx(0.0546875, abs=0.02)
    assert statistics.compare_paired([1, 2, 3, 4, 5], [0] * 5).p_value == 2 / 2**5
    assert statistics.compare_paired([1, 2, 3, -4, 7], [0, 0, 0, 0, 7]).p_value == 14 / 2**4
    assert statistics.compare_paired([1, 1], [1, 1]).p_value == 1


def test_signed_rank_of_right_and_wrong_is_mcnemars_exact_test() -> None:
    first, second = [1] * 8 + [0] * 2 + [1] * 30, [0] * 8 + [1] * 2 + [1] * 30
    paired = statistics.compare_paired(first, second)
    assert paired.p_value == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert paired.difference.value == pytest.approx(6 / 40)


def test_signed_rank_of_many_rows_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(0).normal(0.1, 1, 300).tolist()
    exact = statistics.compare_paired(drawn, [0.0] * 300).p_value
    monkeypatch.setattr(statistics, "EXACT_ROWS", 10)
    assert statistics.compare_paired(drawn, [0.0] * 300).p_value == pytest.approx(exact, rel=0.02)


def test_percentile() -> None:
    assert statistics.percentile([4.0, 1.0, 2.0, 3.0], 50) == 2.5
    assert statistics.percentile(np.arange(101.0), 99) == 99


def test_nothing_to_estimate() -> None:
    for attempt in (
        lambda: statistics.proportion(0, 0),
        lambda: statistics.ratio_of_sums([], []),
        lambda: statistics.percentile([], 50),
    ):
        with pytest.raises(ValueError):
            attempt()
