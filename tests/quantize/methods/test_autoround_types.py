"""Values of AutoRound's kind put into bytes: those that the type's own rounding writes."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.quantize.formats.ggml import quantize_tensor
from edgetune.quantize.formats.nbits import (
    NBITS_TYPES,
    dequantize_nbits,
    quantize_nbits,
    unpack_bits,
    unpack_rows,
)
from edgetune.quantize.methods.autoround_types import GGML_TYPES, find_scheme, pack_values
from edgetune.runtimes.ggml import dequantize_tensor


def test_knows_which_types_hold_its_result() -> None:
    assert all(find_scheme(kind) for kind in (*GGML_TYPES, *NBITS_TYPES))
    assert find_scheme("uint2_g64") == (2, 64, True) and find_scheme("Q5_0") == (5, 32, False)
    assert not any(find_scheme(kind) for kind in ("Q4_K", "Q6_K", "Q4_1", "Q5_1", "IQ4_NL", "F16"))


@pytest.mark.parametrize("kind", GGML_TYPES)
def test_packs_scales_and_codes_as_ggml_does(kind: str) -> None:
    values = np.random.default_rng(0).normal(size=(6, 96)).astype(np.float32)
    values[2, 32:64] = 0
    raw = quantize_tensor(values, kind, None, "tensor")
    scales = raw.reshape(6, 3, -1)[..., :2].copy().view(np.float16)
    assert np.array_equal(pack_values(dequantize_tensor(raw, kind), scales, None, kind), raw)


@pytest.mark.parametrize("kind", [kind for kind in NBITS_TYPES if kind not in GGML_TYPES])
def test_packs_blocks_of_an_onnx_graph(kind: str) -> None:
    values = np.random.default_rng(0).normal(size=(6, 384)).astype(np.float32)
    raw = quantize_nbits(values, kind)
    packed = unpack_rows(raw, kind)
    scheme = find_scheme(kind)
    assert scheme is not None
    zeros = None
    if packed.zeros_RY is not None:
        zeros = unpack_bits(packed.zeros_RY, scheme.bits)[:, : packed.scales_RB.shape[1]]
        zeros = zeros.astype(np.float32)
    again = pack_values(dequantize_nbits(raw, kind), packed.scales_RB, zeros, kind)
    assert np.array_equal(again, raw)
