"""Resamples have as many rows as the sample, however they are drawn and kept."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.measure import resampling
from edgetune.measure.resampling import draw_groups, draw_halves, draw_rows, resample_sums


@pytest.mark.parametrize("counts", [np.array([90, 10, 5]), np.ones(7, int), np.array([2, 1, 1, 3])])
def test_resamples_have_as_many_rows_as_the_sample(counts: np.ndarray) -> None:
    (drawn,) = resample_sums(counts, [np.eye(len(counts))], 4000, 0)
    assert drawn.shape == (4000, len(counts))
    assert set(drawn.sum(axis=1)) == {float(counts.sum())}
    assert drawn.mean(axis=0) == pytest.approx(counts, rel=0.1)


def test_tables_of_one_call_are_of_the_same_resamples() -> None:
    table = np.arange(12.0).reshape(6, 2)
    one, other = resample_sums(np.ones(6, int), [table, table[:, :1] + 1], 50, 3)
    assert (other[:, 0] == one[:, 0] + 6).all()


def test_batches_bound_memory_and_change_no_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "CELLS_OF_A_BATCH", 100)
    for drawn in (draw_rows(20, 101, 0), draw_groups(np.array([30, 20]), 2, 101, 0)):
        sizes = [batch.size for batch in drawn]
        assert max(sizes) <= 100 and len(sizes) > 1
        assert sum(sizes) in (20 * 101, 2 * 101)


def test_draws_are_the_same_kept_or_not_and_in_any_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.concatenate(list(draw_rows(37, 200, 5)))
    monkeypatch.setattr(resampling, "CELLS_KEPT", 0)
    assert (np.concatenate(list(draw_rows(37, 200, 5))) == kept).all()
    monkeypatch.setattr(resampling, "CELLS_OF_A_BATCH", 500)
    assert (np.concatenate(list(draw_rows(37, 200, 5))) == kept).all()
    chosen = np.random.default_rng(5).integers(0, 37, (200, 37))
    wanted = [np.bincount(row, minlength=37) for row in chosen]
    assert (kept == wanted).all()


@pytest.mark.parametrize("counts", [np.ones(5, int), np.array([1, 3, 7]), np.array([400, 90])])
def test_a_fair_coin_chooses_binomial_numbers_of_rows(counts: np.ndarray) -> None:
    drawn = np.concatenate(list(draw_halves(counts, 1, 20_000, 0)))
    assert drawn.shape == (20_000, len(counts)) and (drawn <= counts).all()
    assert drawn.mean(axis=0) == pytest.approx(counts / 2, rel=0.03)
    assert drawn.var(axis=0) == pytest.approx(counts / 4, rel=0.05)
    chances = np.corrcoef(drawn.T) - np.eye(len(counts))
    assert np.abs(chances).max() < 0.03
