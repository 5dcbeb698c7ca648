"""Types of ONNX Runtime's MatMulNBits: blocks of 2, 4 or 8 bits, their rounding and their layout.

Q4_0 and Q8_0 are ggml's own bytes, which MatMulNBits reads in another order. The others are ours,
named by bits and group size: value = scale x (quant - zero), ``int4_g64`` symmetric, with the zero
in the middle of the quants, ``uint4_g64`` with a zero point for each block. A row of ours is its
float16 scales, its zeros, its quants, the latter two packed low bits first as the operator takes
them. R rows, C columns, B blocks a row, W weights a block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edgetune.errors import InputError, Unsupported
from edgetune.quantize.formats.ggml import quantize_tensor
from edgetune.runtimes.ggml import dequantize_tensor

#: What a matrix may become, most bits first. ONNX Runtime 1.31 has no kernel of 3 or 5 bits on the
#: CPU; two bits without a zero of the block's own have too few values on one side.
NBITS_TYPES = (
    "Q8_0", "int8_g64", "int8_g128", "uint4_g32", "Q4_0", "uint4_g64", "int4_g64", "uint4_g128",
    "int4_g128", "uint2_g32", "uint2_g64", "uint2_g128",
)  # fmt: skip
_OURS = re.compile(r"(u?)int([248])_g(32|64|128)")
_SHRINKS = {2: np.linspace(0.5, 1.1, 13), 4: np.linspace(0.6, 1.1, 11), 8: np.array([0.99, 1.0])}
_CHUNK_VALUES = 1 << 18  # at a time: what one pass of the search reads stays in the cache


class Layout(NamedTuple):
    """How a type keeps its weights.

    Attributes:
        bits: per quant.
        block: weights that share a scale.
        has_zeros: whether each block has a zero point.
        is_ggml: the bytes are ggml's.
    """

    bits: int
    block: int
    has_zeros: bool
    is_ggml: bool


class Packed(NamedTuple):
    """A matrix as MatMulNBits takes it.

    Attributes:
        quants_RBY: uint8, Y = W * bits / 8 bytes, low bits first.
        scales_RB: float16.
        zeros_RY: uint8, packed over the row's blocks; none where 2^(bits-1) is every block's.
    """

    quants_RBY: np.ndarray
    scales_RB: np.ndarray
    zeros_RY: np.ndarray | None


def layout_of(kind: str) -> Layout:
    """Return the layout of a type.

    Raises:
        Unsupported: MatMulNBits has no such type.
    """
    if kind in ("Q4_0", "Q8_0"):
        return Layout(int(kind[1]), 32, False, True)
    match = _OURS.fullmatch(kind)
    if match is None or kind not in NBITS_TYPES:
        raise Unsupported(
            f"ONNX Runtime has no blocks of {kind}", hint=f"one of {', '.join(NBITS_TYPES)}"
        )
    return Layout(int(match[2]), int(match[3]), match[1] == "u", False)


def fits_nbits(columns: int, kind: str) -> bool:
    """Whether rows of so many columns are whole blocks of the type."""
    return columns % layout_of(kind).block == 0


def nbits_row_bytes(columns: int, kind: str) -> int:
    """Return the bytes of a row, which are also those it has in an ONNX file."""
    layout = layout_of(kind)
    blocks = columns // layout.block
    return blocks * (2 + layout.block * layout.bits // 8) + _zero_bytes(blocks, layout)


def quantize_nbits(
    values_RC: np.ndarray, kind: str, importance: np.ndarray | None = None, name: str = "tensor"
) -> np.ndarray:
    """Quantize a finite float32 matrix to rows of bytes, uint8 [R, row bytes].

    Of our own types each block's scale is the best of several, each fitted by least squares to the
    quants it gives; errors are weighted by the importance of their column.

    Args:
        values_RC: in any order of bytes.
        kind: one of :data:`NBITS_TYPES`.
        importance: float32 [C], or none.
        name: what errors call the tensor.

    Raises:
        InputError: a value that is not finite.
        Unsupported: rows that are no whole number of blocks.
    """
    layout = layout_of(kind)
    values_RC = np.ascontiguousarray(values_RC, np.float32)
    if layout.is_ggml:
        return quantize_tensor(values_RC, kind, importance, name)
    rows, columns = values_RC.shape
    if columns % layout.block:
        raise Unsupported(f"rows of {columns} values cannot be {kind}", where=name)
    if not np.isfinite(values_RC).all():
        raise InputError("weights are NaN or infinite", where=name, hint="the training diverged")
    weights_C = np.ones(columns, np.float32) if importance is None else importance
    weights_BW = weights_C.reshape(-1, layout.block).astype(np.float32)
    # A block whose inputs are all 0 would have no best scale; every weight counts a little.
    weights_BW = weights_BW + np.float32(max(1e-6 * float(weights_BW.mean()), 1e-30))
    step = max(1, _CHUNK_VALUES // columns)
    parts = []
    for start in range(0, rows, step):
        values_RBW = values_RC[start : start + step].reshape(
            -1, columns // layout.block, layout.block
        )
        parts.append(_join(*_search(values_RBW, weights_BW, layout), layout))
    return np.concatenate(parts)


def dequantize_nbits(raw: np.ndarray, kind: str) -> np.ndarray:
    """Return the float32 values [R, C] of rows of bytes: what the type means."""
    layout = layout_of(kind)
    if layout.is_ggml:
        return dequantize_tensor(raw, kind)
    packed = unpack_rows(raw, kind)
    rows, blocks = packed.scales_RB.shape
    quants_RBW = unpack_bits(packed.quants_RBY, layout.bits).astype(np.float32)
    if packed.zeros_RY is None:
        quants_RBW -= 1 << (layout.bits - 1)
    else:
        zeros_RB = unpack_bits(packed.zeros_RY, layout.bits)[:, :blocks]
        quants_RBW -= zeros_RB[..., None]
    return (quants_RBW * packed.scales_RB.astype(np.float32)[..., None]).reshape(rows, -1)


def unpack_rows(raw: np.ndarray, kind: str) -> Packed:
    """Return rows of bytes as the operator takes them."""
    layout = layout_of(kind)
    if layout.is_ggml:
        return _unpack_ggml(raw, layout.bits)
    per_block = 2 + layout.block * layout.bits // 8
    blocks = 8 * raw.shape[1] // (8 * per_block + (layout.bits if layout.has_zeros else 0))
    split = 2 * blocks + _zero_bytes(blocks, layout)
    scales_RB = np.ascontiguousarray(raw[:, : 2 * blocks]).view(np.float16)
    zeros_RY = np.ascontiguousarray(raw[:, 2 * blocks : split]) if layout.has_zeros else None
    quants_RBY = np.ascontiguousarray(raw[:, split:]).reshape(len(raw), blocks, -1)
    return Packed(quants_RBY, scales_RB, zeros_RY)


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """Pack quants along the last axis, low bits first; the last byte is padded with zeros."""
    each = 8 // bits
    short = -codes.shape[-1] % each
    codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, short)]).astype(np.uint8)
    parts = codes.reshape(*codes.shape[:-1], -1, each)
    places = (bits * np.arange(each)).astype(np.uint8)
    packed: np.ndarray = np.bitwise_or.reduce(parts << places, axis=-1)
    return packed


def unpack_bits(packed: np.ndarray, bits: int) -> np.ndarray:
    """Undo :func:`pack_bits`; what filled the last byte stays at the end."""
    places = (bits * np.arange(8 // bits)).astype(np.uint8)
    codes = (packed[..., None] >> places) & np.uint8((1 << bits) - 1)
    flat: np.ndarray = codes.reshape(*packed.shape[:-1], -1)
    return flat


def _search(
    values_RBW: np.ndarray, weights_BW: np.ndarray, layout: Layout
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return quants [R, B, W], float16 scales [R, B] and zeros [R, B] of the least error."""
    shape = values_RBW.shape[:2]
    best_RB = np.full(shape, np.inf, np.float32)
    quants_RBW = np.zeros(values_RBW.shape, np.uint8)
    scales_RB, zeros_RB = np.zeros(shape, np.float16), np.zeros(shape, np.uint8)
    for start_RB, zero_RB in _starts(values_RBW, layout):
        centred_RBW = _codes(values_RBW, start_RB, zero_RB, layout.bits) - zero_RB[..., None]
        square_RB = np.einsum("bw,rbw,rbw->rb", weights_BW, centred_RBW, centred_RBW)
        product_RB = np.einsum("bw,rbw,rbw->rb", weights_BW, centred_RBW, values_RBW)
        fitted_RB = np.where(square_RB > 0, product_RB / np.maximum(square_RB, 1e-30), start_RB)
        scale_RB = np.clip(fitted_RB, -65504, 65504).astype(np.float16)
        wide_RB = scale_RB.astype(np.float32)
        found_RBW = _codes(values_RBW, wide_RB, zero_RB, layout.bits)
        off_RBW = (found_RBW - zero_RB[..., None]) * wide_RB[..., None] - values_RBW
        error_RB = np.einsum("bw,rbw,rbw->rb", weights_BW, off_RBW, off_RBW)
        better_RB = error_RB < best_RB
        best_RB = np.where(better_RB, error_RB, best_RB)
        quants_RBW[better_RB] = found_RBW[better_RB].astype(np.uint8)
        scales_RB[better_RB] = scale_RB[better_RB]
        zeros_RB[better_RB] = zero_RB[better_RB].astype(np.uint8)
    return quants_RBW, scales_RB, zeros_RB


def _starts(values_RBW: np.ndarray, layout: Layout) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield scales and zeros [R, B] to fit from, float32."""
    last, middle = (1 << layout.bits) - 1, 1 << (layout.bits - 1)
    low_RB = np.minimum(values_RBW.min(-1), 0)
    high_RB = np.maximum(values_RBW.max(-1), 0)
    if layout.has_zeros:
        zero_RB = np.round(-low_RB / np.maximum(high_RB - low_RB, 1e-30) * last)
        for shrink in _SHRINKS[layout.bits].astype(np.float32):
            for moved in (-1, 0, 1):
                yield (high_RB - low_RB) * shrink / last, np.clip(zero_RB + moved, 0, last)
        return
    # The code below the zero that has no partner above it is for the side that reaches farther.
    farthest_RB = np.where(high_RB > -low_RB, high_RB, low_RB)
    for shrink in _SHRINKS[layout.bits].astype(np.float32):
        yield -farthest_RB * shrink / middle, np.full(low_RB.shape, middle, np.float32)


def _codes(
    values_RBW: np.ndarray, scale_RB: np.ndarray, zero_RB: np.ndarray, bits: int
) -> np.ndarray:
    divisor_RB = np.where(scale_RB == 0, 1, scale_RB)
    steps_RBW = np.rint(values_RBW / divisor_RB[..., None]) + zero_RB[..., None]
    codes_RBW: np.ndarray = np.clip(steps_RBW, 0, (1 << bits) - 1)
    return codes_RBW


def _join(
    quants_RBW: np.ndarray, scales_RB: np.ndarray, zeros_RB: np.ndarray, layout: Layout
) -> np.ndarray:
    rows = len(quants_RBW)
    parts = [scales_RB.view(np.uint8).reshape(rows, -1)]
    if layout.has_zeros:
        parts.append(pack_bits(zeros_RB, layout.bits))
    return np.concatenate([*parts, pack_bits(quants_RBW, layout.bits).reshape(rows, -1)], axis=1)


def _zero_bytes(blocks: int, layout: Layout) -> int:
    return -(-blocks * layout.bits // 8) if layout.has_zeros else 0


def _unpack_ggml(raw: np.ndarray, bits: int) -> Packed:
    """Repack Q4_0 or Q8_0: a float16 scale, then the quants."""
    blocks = raw.reshape(len(raw), -1, 2 + 32 * bits // 8)
    scales_RB = blocks[..., :2].copy().view(np.float16)[..., 0]
    codes = blocks[..., 2:]
    if bits == 8:
        return Packed(codes ^ 0x80, scales_RB, None)  # int8 to uint8 with a zero point of 128
    # ggml: byte j holds values j and j + 16; MatMulNBits: byte j holds values 2j and 2j + 1. Two
    # bytes at a time: the low bits of both make one of the first half, the high bits one of the
    # second. A quarter of the time that four bits at a time take.
    pairs = codes.view("<u2")
    quants = np.empty(codes.shape, np.uint8)
    np.bitwise_or(pairs & 15, pairs >> 4 & 240, out=quants[..., :8], casting="unsafe")
    np.bitwise_or(pairs >> 4 & 15, pairs >> 8 & 240, out=quants[..., 8:], casting="unsafe")
    return Packed(quants, scales_RB, None)
