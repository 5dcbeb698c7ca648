"""Draws of rows with replacement, which models that answered as many rows share.

Shapes: N rows, G groups, K statistics, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

CELLS_OF_A_BATCH = 1 << 21  # rows x resamples, or statistics x resamples, held at a time
ROWS_OF_A_GROUP = 16  # from so many on, coins are not tossed for each row
CELLS_KEPT = 1 << 25  # rows x resamples of the draws that are kept for other models, bytes


def resample_sums(
    counts: np.ndarray, tables: Sequence[np.ndarray], resamples: int, seed: int
) -> list[np.ndarray]:
    """Return the sums of statistics over resamples of rows, shape (R, K) for each table.

    Args:
        counts: rows of each group, shape (G,); none is 0.
        tables: statistics of one row of each group, shape (G, K).
        resamples: how many.
        seed: of the draws; those of as many rows and the same seed are the same.
    """
    rows, wide = int(counts.sum()), sum(table.shape[1] for table in tables)
    if len(counts) * 4 <= rows:  # groups are drawn at once rather than row by row
        drawn = draw_groups(counts, wide, resamples, seed)
    else:
        drawn = draw_rows(rows, resamples, seed)
        tables = [np.repeat(table, counts, axis=0) for table in tables]
    found: list[list[np.ndarray]] = [[] for _ in tables]
    for batch in drawn:
        for table, sums in zip(tables, found, strict=True):
            sums.append(batch @ table)
    return [np.concatenate(sums) for sums in found]


def draw_groups(counts: np.ndarray, wide: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield batches of resamples: how many rows of each group, shape (batch, G)."""
    generator, rows = np.random.default_rng(seed), int(counts.sum())
    for size in batches(resamples, max(len(counts), wide)):
        yield generator.multinomial(rows, counts / rows, size).astype(np.float64)


def draw_rows(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield batches of resamples: how often each row, shape (batch, N)."""
    if rows * resamples <= CELLS_KEPT:
        kept, start = _keep_rows(rows, resamples, seed), 0
        for size in batches(resamples, rows):
            yield kept[start : start + size].astype(np.float64)
            start += size
        return
    for batch in _count_rows(rows, resamples, seed):
        yield batch.astype(np.float64)


@lru_cache(maxsize=4)
def _keep_rows(rows: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each row is in each resample, shape (R, N): models share them."""
    return np.concatenate(list(_count_rows(rows, resamples, seed)))


def _count_rows(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    for size in batches(resamples, rows):
        chosen = generator.integers(0, rows, (size, rows))
        chosen += rows * np.arange(size)[:, None]
        flat = np.bincount(chosen.reshape(-1), minlength=size * rows)
        # A row is in a resample 255 times with a probability below 1e-500.
        yield flat.reshape(size, rows).astype(np.uint8)


def draw_halves(counts: np.ndarray, wide: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield batches of how many rows of each group a fair coin chooses, shape (batch, G).

    A coin is a bit: to draw these is tens of times as fast as numpy's binomial numbers, unless
    groups are few and large.

    Args:
        counts: rows of each group, shape (G,); none is 0.
        wide: statistics that are held for each draw.
        draws: how many.
        seed: of the draws.
    """
    generator, rows = np.random.default_rng(seed), int(counts.sum())
    if len(counts) * ROWS_OF_A_GROUP <= rows:
        for size in batches(draws, max(len(counts), wide)):
            yield generator.binomial(counts, 0.5, (size, len(counts))).astype(np.float64)
        return
    starts = np.cumsum(counts) - counts
    for size in batches(draws, max(rows, wide)):
        packed = generator.integers(0, 256, (size, -(-rows // 8)), np.uint8)
        coins = np.unpackbits(packed, axis=1, count=rows)
        if rows == len(counts):
            yield coins.astype(np.float64)
        else:
            yield np.add.reduceat(coins, starts, axis=1, dtype=np.float64)


def batches(number: int, wide: int) -> Iterator[int]:
    """Yield the sizes of batches with at most ``CELLS_OF_A_BATCH`` cells each."""
    size = max(1, CELLS_OF_A_BATCH // max(1, wide))
    for start in range(0, number, size):
        yield min(size, number - start)
