"""The embedding of an ONNX graph as a lookup in blocks, which a tied head multiplies with too."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgetune.quantize.formats.nbits import Layout

_BASE = "/model/embed_tokens/Gather"


def look_up(
    node: onnx.NodeProto, inputs: list[str], layout: Layout
) -> tuple[list[onnx.NodeProto], dict[str, onnx.TensorProto]]:
    """Return nodes that look up rows of blocks in place of ``node``, and their constants.

    Each is taken apart by GatherBlockQuantized, which ONNX Runtime has for the CPU in every width
    that MatMulNBits has. Standard operators could do it for 8 bits, in seven nodes: 2 % more of the
    time that a model of 3 M weights takes a token.

    Args:
        node: a Gather in a float32 table.
        inputs: names of blocks, scales and, where blocks have their own, zeros.
        layout: of the blocks.
    """
    ids, out = node.input[1], node.output[0]
    blocks, scales, *zeros = inputs

    def shaped(name: str, to: str, shape: list[int]) -> onnx.NodeProto:
        constants[f"{to}.shape"] = numpy_helper.from_array(np.array(shape), f"{to}.shape")
        return helper.make_node("Reshape", [name, f"{to}.shape"], [to], f"{to}/Reshape")

    def gather(table: str, factors: str, axis: int, to: str) -> onnx.NodeProto:
        return helper.make_node(
            "GatherBlockQuantized", [table, ids, factors, *zeros], [to], _BASE + "/rows",
            domain="com.microsoft", bits=layout.bits, block_size=layout.block, gather_axis=0,
            quantize_axis=axis,
        )  # fmt: skip

    constants: dict[str, onnx.TensorProto] = {}
    # The file has the table once, as MatMulNBits wants it: [rows, blocks, bytes]. ONNX Runtime
    # makes another copy of what is reshaped as it loads; better one of the scales.
    if zeros:  # packed along the row
        nodes = [
            shaped(blocks, _BASE + "/flat", [0, -1]),
            gather(_BASE + "/flat", scales, 1, out),
        ]
    else:
        nodes = [
            shaped(scales, _BASE + "/columns", [0, 0, 1]),
            gather(blocks, _BASE + "/columns", 2, _BASE + "/blocks"),
            shaped(_BASE + "/blocks", out, [0, 0, -1]),
        ]
    return nodes, constants
