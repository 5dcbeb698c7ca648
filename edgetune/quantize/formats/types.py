"""The types that a search chooses from: those of a GGUF file, those of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgetune.quantize.formats.codec import BlockCodec
from edgetune.quantize.formats.ggml import (
    fits_rows,
    needs_importance,
    quantize_tensor,
    row_bytes,
)
from edgetune.quantize.formats.ggml_blocks import CODECS, find_codec
from edgetune.quantize.formats.nbits import (
    NBITS_TYPES,
    dequantize_nbits,
    fits_nbits,
    nbits_row_bytes,
    quantize_nbits,
)
from edgetune.quantize.formats.nbits_codec import find_nbits_codec
from edgetune.runtimes.ggml import dequantize_tensor

ALIGNMENT = 32  # of tensors in a GGUF file, bytes


@dataclass(frozen=True)
class TypeSet:
    """What a tensor of a file can be.

    Attributes:
        names: most bits first.
        probe_types: the first that the rows fit is measured, the others are scaled from it.
        fits: whether rows of so many columns hold a type, with importance or without.
        quantize: (values [out, in], type, importance, name) to bytes [out, row bytes].
        read: such bytes and their type to float32 values.
        row_bytes: of so many columns in a type.
        size: bytes of a tensor to those it takes in the file.
        codec_types: those of ``names`` whose blocks are scale x quant - min, which methods rewrite.
        codec: of one of them; see :class:`edgetune.quantize.formats.codec.BlockCodec`.
    """

    names: tuple[str, ...]
    probe_types: tuple[str, ...]
    fits: Callable[[int, str, bool], bool]
    quantize: Callable[[np.ndarray, str, np.ndarray | None, str], np.ndarray]
    read: Callable[[np.ndarray, str], np.ndarray]
    row_bytes: Callable[[int, str], int]
    size: Callable[[int], int]
    codec_types: tuple[str, ...]
    codec: Callable[[str], BlockCodec]


def pad(size: int) -> int:
    """Return ``size`` rounded up to the alignment of a GGUF file."""
    return -(-size // ALIGNMENT) * ALIGNMENT


#: Left out: IQ2 and IQ1 types, of which one takes ten to a hundred times as long to choose as
#: Q2_K, and ternary ones, made for models trained so.
GGUF = TypeSet(
    (
        "F16", "Q8_0", "Q6_K", "Q5_1", "Q5_K", "Q5_0", "Q4_1", "Q4_K", "Q4_0", "IQ4_NL", "IQ4_XS",
        "IQ3_S", "Q3_K", "IQ3_XXS", "Q2_K",
    ),
    ("Q4_K", "Q4_0"),
    lambda columns, kind, weighed: fits_rows(columns, kind)
    and (weighed or not needs_importance(kind)),
    quantize_tensor,
    dequantize_tensor,
    row_bytes,
    pad,
    tuple(CODECS),
    find_codec,
)  # fmt: skip
#: External data follow each other without padding.
ONNX = TypeSet(
    NBITS_TYPES,
    ("Q4_0",),
    lambda columns, kind, _: fits_nbits(columns, kind),
    quantize_nbits,
    dequantize_nbits,
    nbits_row_bytes,
    lambda size: size,
    NBITS_TYPES,
    find_nbits_codec,
)
