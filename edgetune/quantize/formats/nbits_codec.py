"""NbitsCodec: quants, scales and zero points of MatMulNBits rows.

Q4_0 and Q8_0 have ggml's codec.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgetune.quantize.formats.codec import Unpacked
from edgetune.quantize.formats.ggml_blocks import GgmlCodec, find_codec
from edgetune.quantize.formats.nbits import layout_of, pack_bits, unpack_bits, unpack_rows


@dataclass(frozen=True)
class NbitsCodec:
    """The :class:`~edgetune.quantize.formats.codec.BlockCodec` of a type that is not ggml's."""

    kind: str
    first: int = 0

    @property
    def last(self) -> int:
        """The highest quant."""
        return (1 << layout_of(self.kind).bits) - 1

    @property
    def zero(self) -> int:
        """The quant of 0 where blocks have no zero of their own."""
        return 1 << (layout_of(self.kind).bits - 1)

    def unpack(self, raw: np.ndarray) -> Unpacked:
        """Return the quants, scales and zero points of rows [R, row bytes]."""
        layout, packed = layout_of(self.kind), unpack_rows(raw, self.kind)
        quants_RC = unpack_bits(packed.quants_RBY, layout.bits).reshape(len(raw), -1)
        zeros_RB = None
        if packed.zeros_RY is not None:
            blocks = packed.scales_RB.shape[1]
            zeros_RB = unpack_bits(packed.zeros_RY, layout.bits)[:, :blocks].astype(np.float32)
        return Unpacked(quants_RC, packed.scales_RB.astype(np.float32), None, zeros_RB)

    def pack(self, raw: np.ndarray, quants_RC: np.ndarray) -> np.ndarray:
        """Return the rows ``raw`` with their quants replaced; scales and zero points stay."""
        packed = pack_bits(quants_RC, layout_of(self.kind).bits)
        return np.concatenate([raw[:, : raw.shape[1] - packed.shape[1]], packed], axis=1)

    def read_super_scales(self, raw: np.ndarray) -> np.ndarray:
        """Return the scales [R, B, 1], one per block."""
        return unpack_rows(raw, self.kind).scales_RB.astype(np.float32)[..., None]

    def write_super_scales(self, raw: np.ndarray, scales_RB1: np.ndarray) -> np.ndarray:
        """Return the rows ``raw`` with these scales, as float16; quants and zero points stay."""
        scales = np.ascontiguousarray(scales_RB1[..., 0], np.float16).view(np.uint8)
        return np.concatenate([scales, raw[:, scales.shape[1] :]], axis=1)


def find_nbits_codec(kind: str) -> GgmlCodec | NbitsCodec:
    """Return the codec of one of :data:`edgetune.quantize.formats.nbits.NBITS_TYPES`."""
    return find_codec(kind) if layout_of(kind).is_ggml else NbitsCodec(kind)
