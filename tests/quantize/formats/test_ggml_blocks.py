"""A type's grid: its values are ggml's, and codes go back into the bytes they came from."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.errors import Unsupported
from edgetune.quantize.formats.ggml import quantize_tensor
from edgetune.quantize.formats.ggml_blocks import CODECS, find_codec
from edgetune.runtimes.ggml import dequantize_tensor

RANDOM = np.random.default_rng(0)


def rows(count: int = 37) -> np.ndarray:
    """Rows of very different sizes, one of them all zero."""
    values = RANDOM.standard_normal((count, 768), dtype=np.float32)
    values *= 10.0 ** RANDOM.integers(-4, 2, (count, 1)).astype(np.float32)
    values[3] = 0
    return values


@pytest.mark.parametrize("kind", CODECS)
def test_values_are_those_of_ggml(kind: str) -> None:
    raw = quantize_tensor(rows(), kind, RANDOM.random(768, dtype=np.float32) + 0.1)
    grid, codes = find_codec(kind), find_codec(kind).unpack(raw)
    width = codes.quants_RC.shape[1] // codes.scale_RB.shape[1]
    values = np.repeat(codes.scale_RB, width, 1) * (
        codes.quants_RC.astype(np.float32) - np.float32(grid.zero)
    )
    if codes.min_RB is not None:
        values -= np.repeat(codes.min_RB, width, 1)
    assert np.array_equal(values, dequantize_tensor(raw, kind))
    assert codes.quants_RC.min() >= grid.first and codes.quants_RC.max() <= grid.last


@pytest.mark.parametrize("kind", CODECS)
def test_any_quants_can_be_packed_with_given_scales(kind: str) -> None:
    raw, grid = quantize_tensor(rows(), kind), find_codec(kind)
    before = grid.unpack(raw)
    assert np.array_equal(grid.pack(raw, before.quants_RC), raw)
    codes = RANDOM.integers(grid.first, grid.last + 1, before.quants_RC.shape)
    after = grid.unpack(grid.pack(raw, codes))
    assert np.array_equal(after.quants_RC, codes)
    assert np.array_equal(after.scale_RB, before.scale_RB)


def test_a_type_without_a_codec_is_refused() -> None:
    with pytest.raises(Unsupported, match="IQ4_NL"):
        find_codec("IQ4_NL")
