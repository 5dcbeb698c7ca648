"""Types that hold AutoRound's result as it is, and its values as their bytes.

AutoRound's integers are float16 scales times whole numbers: symmetric ones are what Q4_0, Q5_0,
Q8_0 and MatMulNBits' S types hold, asymmetric ones, whose zeros are whole numbers too, its Z types.

What auto-round 0.14.2 can do and no file can hold as it is: its ``gguf:q*_k`` schemes keep the
scales of superblocks in float32, where K-quants have float16; its blocks with a float minimum
likewise, where Q4_1 and Q5_1 have a float16 one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edgetune.quantize.formats.ggml_blocks import CODECS
from edgetune.quantize.formats.nbits import NBITS_TYPES, layout_of, pack_bits

#: Types of a GGUF file that hold AutoRound's result exactly; of ONNX graphs all do.
GGML_TYPES = ("Q8_0", "Q5_0", "Q4_0")


class Scheme(NamedTuple):
    """How AutoRound rounds for a type.

    Attributes:
        bits: per quant.
        block: weights that share a scale.
        has_zeros: whether each block has a zero point.
    """

    bits: int
    block: int
    has_zeros: bool

    @property
    def settings(self) -> dict[str, Any]:
        """The same in AutoRound's words."""
        return {
            "bits": self.bits, "group_size": self.block, "sym": not self.has_zeros,
            "data_type": "int",
        }  # fmt: skip


def find_scheme(kind: str) -> Scheme | None:
    """Return how AutoRound rounds for a type; none where the type does not hold its result."""
    if kind in GGML_TYPES:
        return Scheme(int(kind[1]), 32, False)
    if kind in NBITS_TYPES:
        layout = layout_of(kind)
        return Scheme(layout.bits, layout.block, layout.has_zeros)
    return None


def pack_values(
    values_RC: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None, kind: str
) -> np.ndarray:
    """Return rows of bytes of values that are scale x (whole number - zero).

    Args:
        values_RC: float32.
        scales: float16, one a block, row by row.
        zeros: whole numbers, one a block; read for types that have them.
        kind: a type that :func:`find_scheme` knows.
    """
    scheme = find_scheme(kind)
    assert scheme is not None
    rows, columns = values_RC.shape
    scales_RB = np.ascontiguousarray(scales.astype(np.float16).reshape(rows, -1))
    wide_RB1 = scales_RB.astype(np.float32)[..., None]
    quants_RBW = np.rint(
        values_RC.reshape(rows, -1, scheme.block) / np.where(wide_RB1 == 0, 1, wide_RB1)
    )
    if kind in GGML_TYPES:
        grid = CODECS[kind]
        raw = np.zeros((rows, columns // scheme.block, grid.block[1]), np.uint8)
        raw[..., :2] = scales_RB[..., None].view(np.uint8)  # each of them begins with its scale
        quants_RC = quants_RBW.reshape(rows, columns) + grid.zero
        return grid.pack(raw.reshape(rows, -1), quants_RC)
    if scheme.has_zeros:
        assert zeros is not None
        zeros_RB = zeros.reshape(rows, -1)
        before = [scales_RB.view(np.uint8), pack_bits(zeros_RB, scheme.bits)]
    else:
        zeros_RB = np.full_like(wide_RB1[..., 0], 1 << (scheme.bits - 1))
        before = [scales_RB.view(np.uint8)]
    quants_RC = (quants_RBW + zeros_RB[..., None]).reshape(rows, columns)
    return np.concatenate([*before, pack_bits(quants_RC, scheme.bits)], axis=1)
