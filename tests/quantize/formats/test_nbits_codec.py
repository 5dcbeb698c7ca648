"""The grids of MatMulNBits' types: taken apart and put together they are the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.quantize.formats.nbits import BLOCK_TYPES, dequantize_blocks, quantize_blocks
from edgetune.quantize.formats.nbits_codec import find_block_grid

COLUMNS = 384


def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((24, COLUMNS), dtype=np.float32) + np.float32(0.2)
    values[3] = 0  # blocks whose scale is 0
    return values


@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_codes_and_scales_are_the_values(kind: str) -> None:
    raw = quantize_blocks(rows(), kind)
    grid = find_block_grid(kind)
    codes_RC, scale_RB, offset_RB, zero_RB = grid.take_apart(raw)
    assert offset_RB is None and codes_RC.shape == (24, COLUMNS)
    assert codes_RC.min() >= grid.first and codes_RC.max() <= grid.last
    assert (zero_RB is None) == (not kind.startswith("uint"))
    zero = np.float32(grid.zero) if zero_RB is None else zero_RB[..., None]
    blocks_RBW = codes_RC.reshape(*scale_RB.shape, -1).astype(np.float32)
    values = ((blocks_RBW - zero) * scale_RB[..., None]).reshape(24, COLUMNS)
    assert np.array_equal(values, dequantize_blocks(raw, kind))


@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_other_codes_beside_the_same_scales(kind: str) -> None:
    raw = quantize_blocks(rows(), kind)
    grid = find_block_grid(kind)
    before = grid.take_apart(raw)
    assert np.array_equal(grid.put_together(raw, before.codes_RC), raw)
    codes_RC = np.random.default_rng(1).integers(grid.first, grid.last + 1, before.codes_RC.shape)
    after = grid.take_apart(grid.put_together(raw, codes_RC))
    assert np.array_equal(after.codes_RC, codes_RC)
    assert np.array_equal(after.scale_RB, before.scale_RB)
    if before.zero_RB is not None and after.zero_RB is not None:
        assert np.array_equal(after.zero_RB, before.zero_RB)
