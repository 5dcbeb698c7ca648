"""Values of packed weights: one program for a run of values, each read from the bytes of its block.

Products and sums are not fused, so that values are ggml's bit for bit. The definitions:
edgetune.ops.dequantize.dequantize and dequantize_nf4.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from edgetune.ops.dequantize import BLOCKS, NF4_BLOCK, check_packed
from edgetune.ops.dequantize import dequantize as define

BLOCK_V = 1024  # values a program


@triton.jit
def _byte(pointer, at, inside):
    return tl.load(pointer + at, mask=inside, other=0).to(tl.int32)


@triton.jit
def _signed(byte):
    return tl.where(byte > 127, byte - 256, byte)


@triton.jit
def _store(pointer, value, inside):
    """Write float32 values in the dtype of the result, rounded to nearest, ties to even."""
    if pointer.dtype.element_ty == tl.bfloat16:  # Triton's interpreter would cut the bits off
        bits = value.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        value = bits.to(tl.float32, bitcast=True)
    tl.store(pointer, value.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def _scale_and_min(pointer, run, inside):
    """Six bits each of the eight scales and mins at ``pointer``: ggml's ``get_scale_min_k4``."""
    lane = run % 4
    first = _byte(pointer, lane, inside)
    second = _byte(pointer, lane + 4, inside)
    third = _byte(pointer, lane + 8, inside)
    early = run < 4
    scale = tl.where(early, first & 63, (third & 15) | ((first >> 6) << 4))
    least = tl.where(early, second & 63, (third >> 4) | ((second >> 6) << 4))
    return scale.to(tl.float32), least.to(tl.float32)


@triton.jit
def _dequantize_kernel(
    packed_ptr, half_ptr, out_ptr, count,
    KIND: tl.constexpr, VALUES: tl.constexpr, BYTES: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = at < count
    block = at // VALUES
    place = (at % VALUES).to(tl.int32)
    base = packed_ptr + block * BYTES
    halves = half_ptr + block * (BYTES // 2)
    if KIND == "Q4_0":
        d = tl.load(halves, mask=inside, other=0.0).to(tl.float32)
        quant = (_byte(base, 2 + place % 16, inside) >> (place // 16 * 4)) & 15
        value = (quant - 8).to(tl.float32) * d
    elif KIND == "Q8_0":
        d = tl.load(halves, mask=inside, other=0.0).to(tl.float32)
        value = _signed(_byte(base, 2 + place, inside)).to(tl.float32) * d
    elif KIND == "Q6_K":
        half = place // 128
        run = place % 128 // 32
        lane = place % 32
        low = (_byte(base, half * 64 + run % 2 * 32 + lane, inside) >> (run // 2 * 4)) & 15
        high = (_byte(base, 128 + half * 32 + lane, inside) >> (run * 2)) & 3
        scale = _signed(_byte(base, 192 + place // 16, inside)).to(tl.float32)
        scale = scale * tl.load(halves + 104, mask=inside, other=0.0).to(tl.float32)
        value = ((low | (high << 4)) - 32).to(tl.float32) * scale
    else:  # Q4_K and Q5_K
        run = place // 32
        lane = place % 32
        scale, least = _scale_and_min(base + 4, run, inside)
        scale = scale * tl.load(halves, mask=inside, other=0.0).to(tl.float32)
        least = least * tl.load(halves + 1, mask=inside, other=0.0).to(tl.float32)
        first = 16 if KIND == "Q4_K" else 48
        quant = (_byte(base, first + run // 2 * 32 + lane, inside) >> (run % 2 * 4)) & 15
        if KIND == "Q5_K":
            quant |= ((_byte(base, 16 + lane, inside) >> run) & 1) << 4
        value = quant.to(tl.float32) * scale - least
    _store(out_ptr + at, value, inside)


@triton.jit
def _nf4_kernel(packed_ptr, scales_ptr, code_ptr, out_ptr, count, VALUES: tl.constexpr,
                BLOCK_V: tl.constexpr):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = at < count
    byte = _byte(packed_ptr, at // 2, inside)
    quant = tl.where(at % 2 == 0, byte >> 4, byte & 15)
    value = tl.load(code_ptr + quant, mask=inside, other=0.0)
    value *= tl.load(scales_ptr + at // VALUES, mask=inside, other=0.0)
    _store(out_ptr + at, value, inside)


def dequantize(
    packed: torch.Tensor, ggml_type: str, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Return the values [..., columns] of packed rows [..., row bytes], rounded to ``dtype``."""
    columns = check_packed(packed, ggml_type)
    if ggml_type in ("F32", "F16", "BF16"):  # a view in another dtype
        return define(packed, ggml_type, dtype)
    values, size, _ = BLOCKS[ggml_type]
    flat = packed.contiguous().reshape(-1)
    out = torch.empty(*packed.shape[:-1], columns, dtype=dtype, device=packed.device)
    if out.numel():
        _launch(
            _dequantize_kernel, out, flat, flat.view(torch.float16), out, out.numel(),
            KIND=ggml_type, VALUES=values, BYTES=size,
        )  # fmt: skip
    return out


def dequantize_nf4(
    packed: torch.Tensor,
    scales_B: torch.Tensor,
    code: torch.Tensor,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return the values [2 N] of NF4 quants, rounded to ``dtype``."""
    out = torch.empty(2 * packed.numel(), dtype=dtype, device=packed.device)
    if out.numel():
        flat = packed.contiguous().reshape(-1)
        _launch(
            _nf4_kernel, out, flat, scales_B.contiguous(), code, out, out.numel(), VALUES=NF4_BLOCK
        )
    return out


def _launch(kernel: Any, out: torch.Tensor, *arguments: Any, **constants: Any) -> None:
    grid = (triton.cdiv(out.numel(), BLOCK_V),)
    kernel[grid](*arguments, BLOCK_V=BLOCK_V, enable_fp_fusion=False, **constants)
