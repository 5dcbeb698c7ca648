"""Blocks of MatMulNBits: their definition here is what ONNX Runtime computes with."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgetune.errors import InputError, Unsupported
from edgetune.quantize.formats.nbits import (
    NBITS_TYPES,
    dequantize_nbits,
    layout_of,
    pack_bits,
    quantize_nbits,
    unpack_bits,
    unpack_rows,
)

COLUMNS = 384  # three blocks of 128: an odd count, so that packed zeros end in half a byte


def make_matrix(rows: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((rows, COLUMNS), dtype=np.float32)
    return values * rng.uniform(0.5, 2, (rows, 1)).astype(np.float32) + 0.1


def run(node: onnx.NodeProto, feed: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    kind = helper.np_dtype_to_tensor_dtype(feed.dtype)
    graph = helper.make_graph(
        [node], "one", [helper.make_tensor_value_info("x", kind, [None] * feed.ndim)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, {"x": feed})[0]
    return found


def operands(kind: str, raw: np.ndarray) -> dict[str, np.ndarray]:
    packed = unpack_rows(raw, kind)
    made: dict[str, Any] = {"b": packed.quants_RBY, "s": packed.scales_RB.astype(np.float32)}
    return made if packed.zeros_RY is None else {**made, "z": packed.zeros_RY}


@pytest.mark.parametrize("kind", NBITS_TYPES)
def test_the_runtime_multiplies_with_the_definition(kind: str) -> None:
    raw = quantize_nbits(make_matrix(), kind)
    values, layout = dequantize_nbits(raw, kind), layout_of(kind)
    given = operands(kind, raw)
    feed = np.random.default_rng(1).standard_normal((5, COLUMNS), dtype=np.float32)
    for level, tolerance in ((0, 1e-5), (4, 3e-2)):  # 4: the inputs are rounded to 8 bits
        node = helper.make_node(
            "MatMulNBits", ["x", *given], ["y"], domain="com.microsoft", K=COLUMNS, N=len(values),
            bits=layout.bits, block_size=layout.block, accuracy_level=level,
        )  # fmt: skip
        wanted = feed @ values.T
        off = np.abs(run(node, feed, given) - wanted).max() / np.abs(wanted).max()
        assert off < tolerance, level


@pytest.mark.parametrize("kind", NBITS_TYPES)
def test_the_runtime_looks_up_the_definition(kind: str) -> None:
    raw = quantize_nbits(make_matrix(), kind)
    values, layout = dequantize_nbits(raw, kind), layout_of(kind)
    given = operands(kind, raw)
    given["b"] = given["b"].reshape(len(values), -1)
    ids = np.array([[3, 39], [0, 7]])
    inputs = ["b", "x", *[name for name in given if name != "b"]]
    node = helper.make_node(
        "GatherBlockQuantized", inputs, ["y"], domain="com.microsoft", bits=layout.bits,
        block_size=layout.block, gather_axis=0, quantize_axis=1,
    )  # fmt: skip
    assert np.array_equal(run(node, ids, given), values[ids])


def error(kind: str, importance: np.ndarray | None = None) -> float:
    values = make_matrix()
    off = np.square(dequantize_nbits(quantize_nbits(values, kind, importance), kind) - values)
    return float((off if importance is None else off * importance).mean())


def test_more_bytes_are_less_error() -> None:
    errors = [
        error(kind) for kind in ("int8_g64", "uint4_g32", "uint4_g128", "uint2_g32", "uint2_g128")
    ]
    assert errors == sorted(errors) and errors[0] < 1e-4
    assert error("int4_g64") < 1.35 * error("Q4_0")
    rough = [len(quantize_nbits(make_matrix(1), kind)[0]) * 8 / COLUMNS for kind in NBITS_TYPES]
    assert min(rough) < 2.2 and max(rough) == 8.5


def test_importance_moves_the_error() -> None:
    importance = np.where(np.arange(COLUMNS) % 16 == 5, 1e3, 1).astype(np.float32)
    values = make_matrix()
    plain = np.square(dequantize_nbits(quantize_nbits(values, "int4_g64"), "int4_g64") - values)
    assert error("int4_g64", importance) < 0.95 * float((plain * importance).mean())


def test_zero_blocks_and_idle_inputs_are_no_trouble() -> None:
    values = make_matrix()
    values[0] = 0
    for kind in NBITS_TYPES:
        read = dequantize_nbits(quantize_nbits(values, kind, np.zeros(COLUMNS, np.float32)), kind)
        assert np.isfinite(read).all() and not read[0].any(), kind


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_bits_are_packed_and_read_back(bits: int) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << bits, (3, 7)).astype(np.uint8)
    assert np.array_equal(unpack_bits(pack_bits(codes, bits), bits)[:, :7], codes)


def test_impossible_types_and_shapes_are_refused() -> None:
    with pytest.raises(Unsupported, match="no blocks of S3_32"):
        layout_of("S3_32")
    with pytest.raises(Unsupported, match="rows of 96"):
        quantize_nbits(np.zeros((2, 96), np.float32), "int4_g64")
    with pytest.raises(InputError, match="NaN"):
        quantize_nbits(np.full((2, 64), np.nan, np.float32), "int4_g64")
