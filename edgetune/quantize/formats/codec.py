"""BlockCodec: a quantized row as integer quants with the scales and mins of its blocks, and back.

A weight is scale x (quant - zero point) - min. R rows, C columns, B blocks and S super-blocks per
row.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np


class Unpacked(NamedTuple):
    """A quantized tensor: value = scale · (quant − zero point) − min.

    Attributes:
        quants_RC: uint8.
        scale_RB: float32, one a block; may be negative or 0.
        min_RB: float32, or none where the type has none.
        zero_RB: float32, or none where the type's zero point is every block's.
    """

    quants_RC: np.ndarray
    scale_RB: np.ndarray
    min_RB: np.ndarray | None
    zero_RB: np.ndarray | None = None


class BlockCodec(Protocol):
    """Packs and unpacks the blocks of one type."""

    @property
    def zero(self) -> int:
        """The quant whose value is minus the min, where a block has none of its own."""

    @property
    def first(self) -> int:
        """The lowest quant."""

    @property
    def last(self) -> int:
        """The highest quant."""

    def unpack(self, raw: np.ndarray) -> Unpacked:
        """Return the quants and scales of rows [R, row bytes]."""

    def pack(self, raw: np.ndarray, quants_RC: np.ndarray) -> np.ndarray:
        """Return the rows ``raw`` with their quants replaced and their scales kept."""

    def read_super_scales(self, raw: np.ndarray) -> np.ndarray:
        """Return each super-block's scale ``d``, then ``dmin``, float32 [R, S, 1 or 2]."""

    def write_super_scales(self, raw: np.ndarray, scales_RSF: np.ndarray) -> np.ndarray:
        """Return the rows ``raw`` with these super-block scales, as float16; quants stay."""
