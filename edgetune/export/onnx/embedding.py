"""The embedding of an ONNX graph as a lookup in blocks, which a tied head multiplies with too."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgetune.quantize.formats.nbits import Layout

_BASE = "/model/embed_tokens/Gather"
Constants = dict[str, np.ndarray]


def look_up(
    node: onnx.NodeProto, inputs: list[str], layout: Layout
) -> tuple[list[onnx.NodeProto], Constants]:
    """Return nodes that look up rows of blocks and replace ``node``, and their constants.

    Blocks of 8 bits are dequantized by standard operators, which every build of ONNX Runtime has:
    its WebGPU builds for browsers have no GatherBlockQuantized on the CPU. Other widths keep that
    operator: standard ones would take six nodes and a table of 2 KB, or twelve with zeros.

    Args:
        node: a Gather in a float32 table.
        inputs: names of blocks, scales and, where blocks have their own, zeros.
        layout: of the blocks.
    """
    ids, out = node.input[1], node.output[0]
    blocks, scales, *zeros = inputs
    constants: Constants = {}
    # The file has the table once, as MatMulNBits wants it: [rows, blocks, bytes]. ONNX Runtime
    # makes another copy of what is reshaped as it loads; better one of the scales.
    if zeros:  # packed along the row
        flat = _BASE + "/flat"
        lookup = _gather_quantized([flat, ids, scales, *zeros], out, layout, 1)
        return [_reshape(blocks, flat, [0, -1], constants), lookup], constants
    columns, values = _BASE + "/columns", _BASE + "/blocks"
    if layout.bits == 8:
        lookups = _dequantize(blocks, columns, ids, values, constants)
    else:
        lookups = [_gather_quantized([blocks, ids, columns], values, layout, 2)]
    nodes = [
        _reshape(scales, columns, [0, 0, 1], constants),
        *lookups,
        _reshape(values, out, [0, 0, -1], constants),
    ]
    return nodes, constants


def _dequantize(
    blocks: str, columns: str, ids: str, out: str, constants: Constants
) -> list[onnx.NodeProto]:
    """Return nodes that make float32 [..., blocks, block], (quant - 128) x scale, of rows of bytes.

    The difference is exact and the product rounded once: the values are GatherBlockQuantized's.
    """
    one, zero = _BASE + "/one", _BASE + "/zero"
    constants[one] = np.array(1, np.float32)
    constants[zero] = np.array(128, np.uint8)
    quants, factors, centered = _BASE + "/quants", _BASE + "/scales", _BASE + "/centered"
    return [
        helper.make_node("Gather", [blocks, ids], [quants], quants),
        helper.make_node("DequantizeLinear", [quants, one, zero], [centered], centered),
        helper.make_node("Gather", [columns, ids], [factors], factors),
        helper.make_node("Mul", [centered, factors], [out], _BASE + "/rows"),
    ]


def _gather_quantized(inputs: list[str], out: str, layout: Layout, axis: int) -> onnx.NodeProto:
    return helper.make_node(
        "GatherBlockQuantized", inputs, [out], _BASE + "/rows", domain="com.microsoft",
        bits=layout.bits, block_size=layout.block, gather_axis=0, quantize_axis=axis,
    )  # fmt: skip


def _reshape(name: str, to: str, shape: list[int], constants: Constants) -> onnx.NodeProto:
    constants[f"{to}.shape"] = np.array(shape)
    return helper.make_node("Reshape", [name, f"{to}.shape"], [to], f"{to}/Reshape")
