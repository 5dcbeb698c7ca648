"""ggml's blocks inside an ONNX graph: a float graph's weights as MatMulNBits of 4 or 8 bits.

ggml's Q4_0 (value = scale x (q - 8)) and Q8_0 (scale x q) are what MatMulNBits reads, in another
order of bits, so the same numbers go into both containers: a gap between a GGUF and an ONNX file
points at the runtime. Layouts: ggml-common.h, and contrib_ops/core MatMulNBits of ONNX Runtime.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgetune.errors import Unsupported
from edgetune.quantize.ggml import quantize_tensor

BLOCK = 32
BITS = {"Q4_0": 4, "Q8_0": 8}
HEAD = "/lm_head/MatMul"
EMBEDDING = "/model/embed_tokens/Gather"
# The builder's node names to the GGUF tensors whose importance weighs them (q, k, v share inputs).
_PARTS = {
    "attn/qkv_proj": "attn_q",
    "attn/q_proj": "attn_q",
    "attn/k_proj": "attn_q",
    "attn/v_proj": "attn_q",
    "attn/o_proj": "attn_output",
    "mlp/gate_proj": "ffn_up",
    "mlp/up_proj": "ffn_up",
    "mlp/gate_up_proj": "ffn_up",
    "mlp/down_proj": "ffn_down",
}
_LAYER = re.compile(r"/model/layers\.(\d+)/(\w+/\w+)/MatMul")


def quantize_graph(
    model: onnx.ModelProto, settings: dict[str, Any], importance: Mapping[str, np.ndarray]
) -> list[dict[str, str]]:
    """Replace the weights of ``model`` (float32, of the genai builder) by blocks, in place.

    Args:
        model: with its weights in memory.
        settings: ``weights``, ``head`` and ``embedding`` types, ``accuracy_level``.
        importance: GGUF tensor name to column weights; may be empty.

    Returns:
        ``{"tensor", "wanted", "got", "why"}`` for weights whose rows are no whole blocks.
    """
    graph = model.graph
    weights = {each.name: each for each in graph.initializer}
    made: dict[str, onnx.TensorProto] = {}
    fallbacks: list[dict[str, str]] = []
    nodes: list[onnx.NodeProto] = []
    transposed = {n.output[0]: n for n in graph.node if n.op_type == "Transpose"}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            kind = settings["head" if node.name == HEAD else "weights"]
            matrix = numpy_helper.to_array(weights[node.input[1]]).T  # [out, in], as ggml has it
            if matrix.shape[1] % BLOCK:
                why = f"rows of {matrix.shape[1]} are no multiple of {BLOCK}"
                fallbacks.append({"tensor": node.name, "wanted": kind, "got": "F32", "why": why})
            else:
                found = _find_importance(node.name, importance)
                made |= _pack(node.name, matrix, kind, found)
                node = _matmul(node, matrix, kind, settings["accuracy_level"])
            nodes.append(node)
        elif node.name == EMBEDDING:
            nodes += _embed(node, weights, transposed, settings, importance, made, fallbacks)
        else:
            nodes.append(node)
    _replace(graph, nodes, made)
    return fallbacks


def narrow_graph(model: onnx.ModelProto) -> list[dict[str, str]]:
    """Store the matrices of a float32 graph as float16, each cast back where it is read.

    ONNX Runtime folds the casts when it loads, so the file is half as big and every operator has
    its float32 kernel: the CPU has none for attention in float16.

    Returns:
        ``{"tensor", "wanted", "got", "why"}`` for weights beyond float16's range.
    """
    graph = model.graph
    fallbacks = []
    casts = []
    for weight in graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) < 2:
            continue
        values = numpy_helper.to_array(weight)
        if np.abs(values).max() > np.finfo(np.float16).max:
            why = f"its largest weight is {np.abs(values).max():.3g}"
            fallbacks.append({"tensor": weight.name, "wanted": "F16", "got": "F32", "why": why})
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + ".float16"))
        casts.append(
            helper.make_node(
                "Cast", [weight.name], [name], name + "/Cast", to=onnx.TensorProto.FLOAT
            )
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return fallbacks


def _embed(
    node: onnx.NodeProto,
    weights: Mapping[str, onnx.TensorProto],
    transposed: Mapping[str, onnx.NodeProto],
    settings: dict[str, Any],
    importance: Mapping[str, np.ndarray],
    made: dict[str, onnx.TensorProto],
    fallbacks: list[dict[str, str]],
) -> list[onnx.NodeProto]:
    """Return nodes that look up rows of 8-bit blocks and scale them; tied: the head's blocks."""
    source = transposed.get(node.input[0])
    name = source.input[0] if source is not None else node.input[0]
    table = numpy_helper.to_array(weights[name])
    table = table.T if source is not None else table  # [vocabulary, hidden]
    kind = settings["embedding"]
    if table.shape[1] % BLOCK or kind != "Q8_0":
        why = f"rows of {table.shape[1]} are no multiple of {BLOCK}"
        fallbacks.append({"tensor": node.name, "wanted": kind, "got": "F32", "why": why})
        return [node]
    prefix = HEAD if source is not None and settings["head"] == kind else EMBEDDING
    if prefix + ".blocks" not in made:
        made |= _pack(prefix, table, kind, _find_importance(HEAD, importance))
    ids, out, base = node.input[1], node.output[0], EMBEDDING
    made[base + ".zero"] = numpy_helper.from_array(np.float32(128), base + ".zero")
    made[base + ".axis"] = numpy_helper.from_array(np.array([-1]), base + ".axis")
    made[base + ".shape"] = numpy_helper.from_array(np.array([0, 0, -1]), base + ".shape")
    steps = [
        ("Gather", [prefix + ".blocks", ids], "codes"),
        ("Cast", [base + "/codes"], "floats"),
        ("Sub", [base + "/floats", base + ".zero"], "centred"),
        ("Gather", [prefix + ".scales", ids], "scales"),
        ("Unsqueeze", [base + "/scales", base + ".axis"], "columns"),
        ("Mul", [base + "/centred", base + "/columns"], "values"),
        ("Reshape", [base + "/values", base + ".shape"], None),
    ]
    return [
        helper.make_node(
            kind_of,
            inputs,
            [f"{base}/{to}" if to else out],
            f"{base}/{to or 'rows'}",
            **({"to": onnx.TensorProto.FLOAT} if kind_of == "Cast" else {}),
        )
        for kind_of, inputs, to in steps
    ]


def _pack(
    name: str, matrix: np.ndarray, kind: str, importance: np.ndarray | None
) -> dict[str, onnx.TensorProto]:
    """Quantize ``[out, in]`` with ggml and return ``.blocks`` and ``.scales`` initializers."""
    raw = quantize_tensor(np.ascontiguousarray(matrix, np.float32), kind, importance, name)
    codes, scales = unpack_blocks(raw, kind)
    return {
        name + suffix: numpy_helper.from_array(np.ascontiguousarray(values), name + suffix)
        for suffix, values in ((".blocks", codes), (".scales", scales))
    }


def unpack_blocks(raw: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Repack ggml rows for MatMulNBits.

    Returns:
        uint8 ``[out, blocks, 16 or 32]`` and float32 scales ``[out, blocks]``.
    """
    width = 2 + BLOCK * BITS[kind] // 8  # a float16 scale, then the codes
    blocks = raw.reshape(len(raw), -1, width)
    scales = blocks[..., :2].copy().view(np.float16)[..., 0].astype(np.float32)
    codes = blocks[..., 2:]
    if kind == "Q8_0":
        return codes ^ 0x80, scales  # int8 to uint8 with a zero point of 128
    # ggml: byte j holds values j and j + 16; MatMulNBits: byte j holds values 2j and 2j + 1.
    values = np.concatenate([codes & 15, codes >> 4], -1)
    return values[..., 0::2] | (values[..., 1::2] << 4), scales


def _matmul(
    node: onnx.NodeProto, matrix: np.ndarray, kind: str, accuracy_level: int
) -> onnx.NodeProto:
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], node.name + ".blocks", node.name + ".scales"],
        list(node.output),
        node.name,
        domain="com.microsoft",
        K=matrix.shape[1],
        N=matrix.shape[0],
        bits=BITS[kind],
        block_size=BLOCK,
        accuracy_level=accuracy_level,
    )


def _find_importance(name: str, importance: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if name == HEAD:
        return importance.get("output.weight", importance.get("token_embd.weight"))
    match = _LAYER.fullmatch(name)
    part = _PARTS.get(match[2]) if match else None
    return importance.get(f"blk.{match[1]}.{part}.weight") if match and part else None


def _replace(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], made: Mapping[str, onnx.TensorProto]
) -> None:
    """Put the new nodes and weights in, and drop what nothing reads any more."""
    read = {name for node in nodes for name in node.input} | {o.name for o in graph.output}
    nodes = [n for n in nodes if n.op_type != "Transpose" or n.output[0] in read]
    read = {name for node in nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in read]
    if not any(node.op_type == "MatMulNBits" for node in nodes):
        raise Unsupported("no weight of the graph has rows of whole blocks")
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *made.values()])
