"""How many times each row of a source is taken: limits and weights, by row numbers and a seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_STEP = 0x9E3779B97F4A7C15


def draw_numbers(count: int, seed: int, stream: int = 0) -> npt.NDArray[np.uint64]:
    """Return a random number for each row number, uint64 ``[count]``.

    A row's number depends on nothing but its place, the seed and the stream (the source), so that
    parts of a source can be drawn apart (SplitMix64, Steele et al. 2014, section 3).
    """
    start = np.uint64((seed * _STEP ^ (stream + 1) * 0xD1B54A32D192ED03) & (2**64 - 1))
    with np.errstate(over="ignore"):
        state = start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_STEP)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(state ^ (state >> np.uint64(31)), dtype=np.uint64)


def choose_numbers(
    count: int, limit: int | None, seed: int, stream: int = 0
) -> npt.NDArray[np.bool_]:
    """Return which of ``count`` rows are kept, exactly ``limit`` of them, bool ``[count]``."""
    kept = np.ones(count, dtype=bool)
    if limit is not None and limit < count:
        kept[:] = False
        kept[np.argsort(draw_numbers(count, seed, stream), kind="stable")[:limit]] = True
    return kept


def count_copies(count: int, weight: float, seed: int, stream: int = 0) -> npt.NDArray[np.int64]:
    """Return how often each of ``count`` rows is taken, int64 ``[count]``.

    Their sum is ``count * weight``, rounded: 2.5 takes all rows twice and a half of them once more.
    """
    whole = int(weight)
    copies = np.full(count, whole, dtype=np.int64)
    return copies + choose_numbers(count, round(count * (weight - whole)), seed, stream)
