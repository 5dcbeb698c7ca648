"""Packed weights: the definitions against ggml and bitsandbytes, the kernels against them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgetune import ops
from edgetune.models.nf4 import pack_nf4, unpack
from edgetune.ops.dequantize import BLOCKS, dequantize, dequantize_nf4
from edgetune.quantize.formats.ggml import PLAIN, quantize_tensor
from edgetune.runtimes.ggml import dequantize_tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def rows_of(ggml_type: str, seed: int = 0) -> np.ndarray:
    """Rows of weights, and below them rows in which every byte of quants and scales occurs."""
    random = np.random.default_rng(seed)
    weights = random.standard_normal((5, 512)).astype(np.float32)
    if ggml_type == "F32":
        return weights.view(np.uint8)
    packed = quantize_tensor(weights, ggml_type)
    if ggml_type in PLAIN:
        return packed
    noise = random.integers(0, 256, packed.shape, dtype=np.uint8)
    # Scales that are no numbers are left out: how NaN is written is nobody's promise.
    size = BLOCKS[ggml_type][1]
    blocks, right = noise.reshape(-1, size), packed.reshape(-1, size)
    halves = {"Q6_K": slice(208, 210)}.get(ggml_type, slice(0, 4 if "K" in ggml_type else 2))
    blocks[:, halves] = right[:, halves]
    return np.concatenate((packed, noise))


def same_bits(one: Any, other: Any) -> bool:
    return torch.equal(
        one.cpu().contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


@pytest.mark.parametrize("ggml_type", BLOCKS)
def test_values_are_ggmls_bit_for_bit(ggml_type: str) -> None:
    packed = rows_of(ggml_type)
    wanted = torch.from_numpy(dequantize_tensor(packed, ggml_type))
    found = dequantize(torch.from_numpy(packed), ggml_type)
    assert found.shape == (len(packed), 512)
    assert same_bits(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nf4_values_are_bitsandbytes_bit_for_bit(dtype: torch.dtype) -> None:
    packed, scales, code, wanted = nf4_parts(dtype)
    assert same_bits(dequantize_nf4(packed, scales, code, dtype), wanted)


def nf4_parts(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Quants, scales and code of a matrix in NF4, and bitsandbytes' values of it."""
    from bitsandbytes.functional import dequantize_blockwise

    torch.manual_seed(0)
    packed, state = pack_nf4(torch.randn(24, 320).to(dtype))
    scales = dequantize_blockwise(state.absmax, state.state2) + state.offset
    return packed, scales, state.code, unpack(packed, state).reshape(-1)


def test_bytes_of_another_type_are_refused() -> None:
    rows = torch.zeros(2, 144, dtype=torch.uint8)
    assert dequantize(rows, "Q4_K").shape == (2, 256)
    with pytest.raises(ValueError, match="not rows of Q5_K"):
        dequantize(rows, "Q5_K")
    with pytest.raises(ValueError, match="not rows of Q4_K"):
        dequantize(rows.to(torch.int32), "Q4_K")
    with pytest.raises(ValueError, match="no blocks 'IQ4_NL'"):
        dequantize(rows, "IQ4_NL")


class TestKernels:
    """Under the interpreter or on a GPU."""

    @pytest.fixture(autouse=True)
    def small_programs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Several programs a row, the last of them not full."""
        pytest.importorskip("triton", reason="triton is not installed")
        import edgetune_kernels.dequantize as kernels

        monkeypatch.setattr(kernels, "BLOCK_V", 1024)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("ggml_type", BLOCKS)
    def test_blocks(self, ggml_type: str, dtype: torch.dtype) -> None:
        packed = torch.from_numpy(rows_of(ggml_type)[3:]).to(DEVICE)
        kernel = ops.choose("dequantize", "triton", DEVICE).function
        wanted = dequantize(packed.cpu(), ggml_type, dtype)
        assert same_bits(kernel(packed, ggml_type, dtype), wanted)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_nf4(self, dtype: torch.dtype) -> None:
        packed, scales, code, wanted = nf4_parts(dtype)
        kernel = ops.choose("dequantize_nf4", "triton", DEVICE).function
        found = kernel(packed.to(DEVICE), scales.to(DEVICE), code.to(DEVICE), dtype)
        assert same_bits(found, wanted)

    def test_rows_that_are_not_contiguous(self) -> None:
        packed = torch.from_numpy(rows_of("Q4_K")).to(DEVICE)
        kernel = ops.choose("dequantize", "triton", DEVICE).function
        assert same_bits(kernel(packed[::2], "Q4_K"), dequantize(packed[::2].cpu(), "Q4_K"))
