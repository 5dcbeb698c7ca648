"""Values of packed weights: the blocks of a GGUF file and NF4, as llama.cpp and QLoRA compute them.

A row of a quantized matrix is a whole number of blocks: a few bytes of scales, and the quants in 4
to 8 bits (ggml's ``ggml-common.h`` and ``ggml-quants.c``). All arithmetic is float32, a product or
a sum at a time, so that every value is ggml's bit for bit.

B blocks, V values of a block.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

NF4_BLOCK = 64  # values that share a scale


def dequantize(
    packed: torch.Tensor, ggml_type: str, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Return the values [..., columns] of packed rows [..., row bytes], rounded to ``dtype``.

    Args:
        packed: uint8, on any device.
        ggml_type: a key of :data:`BLOCKS`.
        dtype: of the values; they are computed in float32.

    Raises:
        ValueError: another type, or rows that are no whole number of its blocks.
    """
    columns = check_packed(packed, ggml_type)
    read = BLOCKS[ggml_type][2]
    values = read(packed.reshape(-1, BLOCKS[ggml_type][1]).contiguous())
    return values.to(dtype).reshape(*packed.shape[:-1], columns)


def check_packed(packed: torch.Tensor, ggml_type: str) -> int:
    """Return how many values a row of packed bytes has.

    Raises:
        ValueError: as :func:`dequantize`.
    """
    if ggml_type not in BLOCKS:
        raise ValueError(f"no blocks '{ggml_type}'; there are {', '.join(BLOCKS)}")
    values, size, _ = BLOCKS[ggml_type]
    if packed.dtype != torch.uint8 or packed.ndim < 1 or packed.shape[-1] % size:
        raise ValueError(f"not rows of {ggml_type}: {packed.dtype} of shape {tuple(packed.shape)}")
    return packed.shape[-1] // size * values


def dequantize_nf4(
    packed: torch.Tensor,
    scales_B: torch.Tensor,
    code: torch.Tensor,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return the values [2 N] of NF4 quants (Dettmers et al. 2023, arXiv 2305.14314, section 3).

    Args:
        packed: uint8 [N], two quants a byte, the first in its high bits.
        scales_B: float32, of each 64 values.
        code: float32 [16], what each quant stands for.
        dtype: of the values; they are computed in float32.
    """
    flat = packed.reshape(-1).long()
    quants = torch.stack((flat >> 4, flat & 15), dim=-1).reshape(-1)
    values = code[quants].reshape(-1, NF4_BLOCK) * scales_B[:, None]
    return values.reshape(-1).to(dtype)


def _half(bytes_B2: torch.Tensor) -> torch.Tensor:
    """Float16 in two bytes, as float32 [B, 1]."""
    return bytes_B2.contiguous().view(torch.float16).float()


def _nibbles(bytes_BN: torch.Tensor) -> torch.Tensor:
    """Low four bits of all bytes, then their high four: [B, 2 N]."""
    return torch.cat((bytes_BN & 15, bytes_BN >> 4), dim=-1)


def _f32(blocks: torch.Tensor) -> torch.Tensor:
    return blocks.view(torch.float32)


def _f16(blocks: torch.Tensor) -> torch.Tensor:
    return blocks.view(torch.float16).float()


def _bf16(blocks: torch.Tensor) -> torch.Tensor:
    return blocks.view(torch.bfloat16).float()


def _q4_0(blocks: torch.Tensor) -> torch.Tensor:
    """d · (q − 8): d, and 16 bytes of two quants each."""
    quants_BV = _nibbles(blocks[:, 2:]).float() - 8
    return quants_BV * _half(blocks[:, :2])


def _q8_0(blocks: torch.Tensor) -> torch.Tensor:
    """d · q: d, and 32 signed bytes."""
    return blocks[:, 2:].contiguous().view(torch.int8).float() * _half(blocks[:, :2])


def _scales_and_mins(bytes_B12: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight scales and eight mins of 6 bits each, [B, 8]: ``get_scale_min_k4`` of ggml.

    Bytes 0-3 and 4-7 have the first four scales and mins in their low six bits, and in their high
    two bits those of the last four, whose low four bits are in bytes 8-11.
    """
    first, second, third = bytes_B12[:, :4], bytes_B12[:, 4:8], bytes_B12[:, 8:]
    scales = torch.cat((first & 63, (third & 15) | (first >> 6 << 4)), dim=-1)
    mins = torch.cat((second & 63, (third >> 4) | (second >> 6 << 4)), dim=-1)
    return scales.float(), mins.float()


def _with_mins(blocks: torch.Tensor, quants_B8V: torch.Tensor) -> torch.Tensor:
    """(d · scale) · q − (dmin · min) of eight runs of 32 values."""
    scales_B8, mins_B8 = _scales_and_mins(blocks[:, 4:16])
    scales_B8 *= _half(blocks[:, :2])
    mins_B8 *= _half(blocks[:, 2:4])
    values = quants_B8V.float().mul_(scales_B8[..., None]).sub_(mins_B8[..., None])
    return values.reshape(len(blocks), -1)


def _q4_k(blocks: torch.Tensor) -> torch.Tensor:
    """d, dmin, scales and mins; four times 32 bytes, of two runs each."""
    return _with_mins(blocks, _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32))


def _q5_k(blocks: torch.Tensor) -> torch.Tensor:
    """As Q4_K; bit r of 32 bytes before the quants is the fifth of run r."""
    low = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    runs = torch.arange(8, dtype=torch.uint8, device=blocks.device)[:, None]
    high = (blocks[:, None, 16:48] >> runs) & 1
    return _with_mins(blocks, low | (high << 4))


def _q6_k(blocks: torch.Tensor) -> torch.Tensor:
    """(d · scale) · (q − 32) of 16 runs of 16 values.

    128 bytes of low four bits and 64 of high two, each in two halves of 128 values; 16 signed
    scales; d.
    """
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=blocks.device)[:, None]
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts) & 3
    quants = (low | (high << 4)).float().sub_(32).reshape(-1, 16, 16)
    scales = blocks[:, 192:208].contiguous().view(torch.int8).float() * _half(blocks[:, 208:])
    return quants.mul_(scales[..., None]).reshape(len(blocks), -1)


#: Values a block, bytes a block, and what reads blocks [B, bytes] as float32 [B, values].
BLOCKS: dict[str, tuple[int, int, Callable[[torch.Tensor], torch.Tensor]]] = {
    "F32": (1, 4, _f32),
    "F16": (1, 2, _f16),
    "BF16": (1, 2, _bf16),
    "Q4_0": (32, 18, _q4_0),
    "Q8_0": (32, 34, _q8_0),
    "Q4_K": (256, 144, _q4_k),
    "Q5_K": (256, 176, _q5_k),
    "Q6_K": (256, 210, _q6_k),
}
