"""The lookup of an embedding in blocks gives the values that its type means, in every width."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgetune.export.onnx.embedding import look_up
from edgetune.quantize.formats.nbits import (
    NBITS_TYPES,
    dequantize_nbits,
    layout_of,
    quantize_nbits,
    unpack_rows,
)

ROWS, COLUMNS = 40, 384  # three blocks of 128: packed zeros end in half a byte


@pytest.mark.parametrize("kind", NBITS_TYPES)
def test_lookup_equals_dequantized_rows(kind: str) -> None:
    matrix = np.random.default_rng(0).standard_normal((ROWS, COLUMNS), dtype=np.float32) + 0.1
    raw = quantize_nbits(matrix, kind)
    packed = unpack_rows(raw, kind)
    weights = {"blocks": packed.quants_RBY, "scales": packed.scales_RB.astype(np.float32)}
    if packed.zeros_RY is not None:
        weights["zeros"] = packed.zeros_RY
    gather = helper.make_node("Gather", ["table", "ids"], ["rows"])
    nodes, constants = look_up(gather, list(weights), layout_of(kind))
    graph = helper.make_graph(
        nodes, "lookup", [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [None] * 2)],
        [helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in (weights | constants).items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    ids = np.array([[3, ROWS - 1, 3], [0, 7, 8]])
    assert np.array_equal(session.run(None, {"ids": ids})[0], dequantize_nbits(raw, kind)[ids])
    # A browser's WebGPU build of ONNX Runtime has no other operators for it on the CPU.
    if layout_of(kind).bits == 8:
        assert {node.domain for node in nodes} == {""}
