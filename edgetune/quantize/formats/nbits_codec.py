"""The grids of MatMulNBits' types: integers about a block's zero, times its scale.

Q4_0 and Q8_0 are ggml's bytes and have ggml's grids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgetune.quantize.formats.ggml_blocks import Codes, find_grid
from edgetune.quantize.formats.ggml_blocks import Grid as GgmlGrid
from edgetune.quantize.formats.nbits import layout_of, pack_bits, unpack_bits, unpack_rows


@dataclass(frozen=True)
class BlockGrid:
    """One of our own types; see :class:`edgetune.quantize.methods.fake_quant.Grid`."""

    kind: str
    first: int = 0

    @property
    def last(self) -> int:
        """The highest code."""
        return (1 << layout_of(self.kind).bits) - 1

    @property
    def zero(self) -> int:
        """The code of 0 where blocks have no zero of their own."""
        return 1 << (layout_of(self.kind).bits - 1)

    def take_apart(self, raw: np.ndarray) -> Codes:
        """Return the codes, scales and zeros of rows [R, row bytes]."""
        layout, packed = layout_of(self.kind), unpack_rows(raw, self.kind)
        codes_RC = unpack_bits(packed.codes_RBY, layout.bits).reshape(len(raw), -1)
        zeros_RB = None
        if packed.zeros_RY is not None:
            blocks = packed.scales_RB.shape[1]
            zeros_RB = unpack_bits(packed.zeros_RY, layout.bits)[:, :blocks].astype(np.float32)
        return Codes(codes_RC, packed.scales_RB.astype(np.float32), None, zeros_RB)

    def put_together(self, raw: np.ndarray, codes_RC: np.ndarray) -> np.ndarray:
        """Return the rows ``raw`` with their codes replaced; scales and zeros stand before them."""
        packed = pack_bits(codes_RC, layout_of(self.kind).bits)
        return np.concatenate([raw[:, : raw.shape[1] - packed.shape[1]], packed], axis=1)

    def read_factors(self, raw: np.ndarray) -> np.ndarray:
        """Return the scales [R, B, 1], each of a block of its own."""
        return unpack_rows(raw, self.kind).scales_RB.astype(np.float32)[..., None]

    def write_factors(self, raw: np.ndarray, factors_RB1: np.ndarray) -> np.ndarray:
        """Return the rows ``raw`` with these scales, rounded to float16; codes and zeros stay."""
        scales = np.ascontiguousarray(factors_RB1[..., 0], np.float16).view(np.uint8)
        return np.concatenate([scales, raw[:, scales.shape[1] :]], axis=1)


def find_block_grid(kind: str) -> GgmlGrid | BlockGrid:
    """Return the grid of one of :data:`edgetune.quantize.formats.nbits.BLOCK_TYPES`."""
    return find_grid(kind) if layout_of(kind).is_ggml else BlockGrid(kind)
