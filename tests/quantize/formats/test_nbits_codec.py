"""The grids of MatMulNBits' types: taken apart and put together they are the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.quantize.formats.nbits import NBITS_TYPES, dequantize_nbits, quantize_nbits
from edgetune.quantize.formats.nbits_codec import find_nbits_codec

COLUMNS = 384


def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((24, COLUMNS), dtype=np.float32) + np.float32(0.2)
    values[3] = 0  # blocks whose scale is 0
    return values


@pytest.mark.parametrize("kind", NBITS_TYPES)
def test_codes_and_scales_are_the_values(kind: str) -> None:
    raw = quantize_nbits(rows(), kind)
    grid = find_nbits_codec(kind)
    quants_RC, scale_RB, min_RB, zero_RB = grid.unpack(raw)
    assert min_RB is None and quants_RC.shape == (24, COLUMNS)
    assert quants_RC.min() >= grid.first and quants_RC.max() <= grid.last
    assert (zero_RB is None) == (not kind.startswith("uint"))
    zero = np.float32(grid.zero) if zero_RB is None else zero_RB[..., None]
    blocks_RBW = quants_RC.reshape(*scale_RB.shape, -1).astype(np.float32)
    values = ((blocks_RBW - zero) * scale_RB[..., None]).reshape(24, COLUMNS)
    assert np.array_equal(values, dequantize_nbits(raw, kind))


@pytest.mark.parametrize("kind", NBITS_TYPES)
def test_other_quants_with_the_same_scales(kind: str) -> None:
    raw = quantize_nbits(rows(), kind)
    grid = find_nbits_codec(kind)
    before = grid.unpack(raw)
    assert np.array_equal(grid.pack(raw, before.quants_RC), raw)
    quants_RC = np.random.default_rng(1).integers(grid.first, grid.last + 1, before.quants_RC.shape)
    after = grid.unpack(grid.pack(raw, quants_RC))
    assert np.array_equal(after.quants_RC, quants_RC)
    assert np.array_equal(after.scale_RB, before.scale_RB)
    if before.zero_RB is not None and after.zero_RB is not None:
        assert np.array_equal(after.zero_RB, before.zero_RB)
