"""The embedding of an ONNX graph as a lookup in blocks, which a tied head multiplies with too."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgetune.quantize.blocks import Layout

_BASE = "/model/embed_tokens/Gather"


def look_up(
    node: onnx.NodeProto, inputs: list[str], layout: Layout
) -> tuple[list[onnx.NodeProto], dict[str, onnx.TensorProto]]:
    """Return nodes that look up rows of blocks in place of ``node``, and their constants.

    8-bit blocks of 32 need standard operators only; of the rest each row is taken apart by
    GatherBlockQuantized, which ONNX Runtime has for the CPU in every width that MatMulNBits has.

    Args:
        node: a Gather in a float32 table.
        inputs: names of blocks, scales and, where blocks have their own, zeros.
        layout: of the blocks.
    """
    ids, out = node.input[1], node.output[0]
    if layout.is_ggml and layout.bits == 8:
        return _by_standard(inputs, ids, out)
    flat = numpy_helper.from_array(np.array([0, -1]), _BASE + ".flat")
    blocks, scales, *zeros = inputs
    nodes = [
        # MatMulNBits wants [rows, blocks, bytes]; the file has the table once, in that shape.
        helper.make_node("Reshape", [blocks, flat.name], [_BASE + "/flat"], _BASE + "/flat"),
        helper.make_node(
            "GatherBlockQuantized",
            [_BASE + "/flat", ids, scales, *zeros],
            [out],
            _BASE + "/rows",
            domain="com.microsoft",
            bits=layout.bits,
            block_size=layout.block,
            gather_axis=0,
            quantize_axis=1,
        ),
    ]
    return nodes, {flat.name: flat}


def _by_standard(
    inputs: list[str], ids: str, out: str
) -> tuple[list[onnx.NodeProto], dict[str, onnx.TensorProto]]:
    constants = {
        _BASE + suffix: numpy_helper.from_array(value, _BASE + suffix)
        for suffix, value in (
            (".zero", np.array(128, np.float32)),
            (".axis", np.array([-1])),
            (".shape", np.array([0, 0, -1])),
        )
    }
    steps = [
        ("Gather", [inputs[0], ids], "codes"),
        ("Cast", [_BASE + "/codes"], "floats"),
        ("Sub", [_BASE + "/floats", _BASE + ".zero"], "centred"),
        ("Gather", [inputs[1], ids], "scales"),
        ("Unsqueeze", [_BASE + "/scales", _BASE + ".axis"], "columns"),
        ("Mul", [_BASE + "/centred", _BASE + "/columns"], "values"),
        ("Reshape", [_BASE + "/values", _BASE + ".shape"], None),
    ]
    nodes = [
        helper.make_node(
            kind,
            names,
            [f"{_BASE}/{to}" if to else out],
            f"{_BASE}/{to or 'rows'}",
            **({"to": onnx.TensorProto.FLOAT} if kind == "Cast" else {}),
        )
        for kind, names, to in steps
    ]
    return nodes, constants
