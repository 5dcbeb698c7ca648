"""Blocks inside an ONNX graph: a float graph's weights as MatMulNBits of 2, 4 or 8 bits.

ggml's Q4_0 (value = scale x (q - 8)) and Q8_0 (scale x q) are what MatMulNBits reads, in another
order of bits, so the same numbers go into both containers: a gap between a GGUF and an ONNX file
points at the runtime. Layouts: ggml-common.h, and contrib_ops/core MatMulNBits of ONNX Runtime.
Scales lie in the file as float16, which is what ggml has, and are cast where they are read: ONNX
Runtime constant-folds the casts when it loads, and a block of 32 weights is two bytes smaller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgetune.errors import InputError, Unsupported
from edgetune.export.onnx.embedding import look_up
from edgetune.quantize.formats.nbits import (
    fits_nbits,
    layout_of,
    nbits_row_bytes,
    quantize_nbits,
    unpack_rows,
)

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
#: (matrix [out, in], type, importance, name) to bytes [out, row bytes].
Quantize = Callable[[np.ndarray, str, np.ndarray | None, str], np.ndarray]
_LAYER = re.compile(r"/model/layers\.(\d+)/(\w+/\w+)/MatMul")


@dataclass
class _Packing:
    """Float weights on their way to blocks, and what replaces them.

    Attributes:
        importance: GGUF tensor name to column weights; may be empty.
        quantize: what makes the bytes.
        weights: initializers by name.
        casts: nodes that widen scales.
        fallbacks: ``{"tensor", "wanted", "got", "why"}``.
    """

    importance: Mapping[str, np.ndarray]
    quantize: Quantize
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)
    casts: list[onnx.NodeProto] = field(default_factory=list)
    fallbacks: list[dict[str, str]] = field(default_factory=list)

    def fits(self, name: str, matrix: np.ndarray, kind: str) -> bool:
        """Whether rows are whole blocks; one that is not falls back to float32."""
        if fits_nbits(matrix.shape[1], kind):
            return True
        why = f"rows of {matrix.shape[1]} are no multiple of {layout_of(kind).block}"
        self.fallbacks.append({"tensor": name, "wanted": kind, "got": "F32", "why": why})
        return False

    def pack(self, name: str, matrix: np.ndarray, kind: str, is_matmul: bool = True) -> list[str]:
        """Quantize ``[out, in]``, a tied table once; return the names of an operator's inputs."""
        if name + ".blocks" in self.weights:
            return _names(name, kind)
        column_weights = find_importance(name if is_matmul else "", self.importance)
        raw = self.quantize(np.ascontiguousarray(matrix, np.float32), kind, column_weights, name)
        packed = unpack_rows(raw, kind)
        blocks, scales, *zeros = _names(name, kind)
        narrow = scales + ".float16"
        parts = [(blocks, packed.quants_RBY), (narrow, packed.scales_RB)]
        if packed.zeros_RY is not None:
            parts.append((zeros[0], packed.zeros_RY))
        for part, values in parts:
            self.weights[part] = numpy_helper.from_array(np.ascontiguousarray(values), part)
        self.casts.append(
            helper.make_node(
                "Cast", [narrow], [scales], scales + "/Cast", to=onnx.TensorProto.FLOAT
            )
        )
        return [blocks, scales, *zeros]


def quantize_graph(
    model: onnx.ModelProto,
    settings: dict[str, Any],
    importance: Mapping[str, np.ndarray],
    quantize: Quantize = quantize_nbits,
    folder: Path | None = None,
) -> list[dict[str, str]]:
    """Replace the weights of ``model`` (float32, of the genai builder) by blocks, in place.

    Args:
        model: with its weights in memory, or as files of ``folder``.
        settings: ``weights``, ``head`` and ``embedding`` types, ``accuracy_level``; ``types`` has
            those of single nodes, by name. A tied table has the type of the head there.
        importance: GGUF tensor name to column weights; may be empty.
        quantize: what makes the bytes.
        folder: of the graph whose weights are read one at a time.

    Returns:
        ``{"tensor", "wanted", "got", "why"}`` for weights whose rows are no whole blocks.

    Raises:
        InputError: ``types`` has a node that the graph has not: the plan is of another model.
    """
    graph, types = model.graph, settings.get("types", {})
    packing = _Packing(importance, quantize)
    unknown = sorted(set(types) - {node.name for node in graph.node})
    if unknown:
        raise InputError(
            f"the plan has types for {len(unknown)} nodes that the graph has not",
            where=unknown[0],
            hint="run edgetune quantize on this model",
        )
    weights = {each.name: each for each in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            kind = types.get(node.name, settings["head" if node.name == HEAD else "weights"])
            matrix = _read(weights[node.input[1]], folder).T  # [out, in], as ggml has it
            if packing.fits(node.name, matrix, kind):
                inputs = packing.pack(node.name, matrix, kind)
                node = _matmul(node, matrix, inputs, kind, settings["accuracy_level"])
            nodes.append(node)
        elif node.name == EMBEDDING:
            table, is_tied = _read_table(node, graph, weights, folder)
            own = types.get(HEAD if is_tied else EMBEDDING, settings["embedding"])
            head = types.get(HEAD, settings["head"])
            prefix = HEAD if is_tied and own == head else EMBEDDING
            if packing.fits(node.name, table, own):
                inputs = packing.pack(prefix, table, own, is_tied)
                found, constants = look_up(node, inputs, layout_of(own))
                packing.weights |= constants
                nodes += found
            else:
                nodes.append(node)
        else:
            nodes.append(node)
    _replace(graph, [*packing.casts, *nodes], packing.weights)
    return packing.fallbacks


def _read(weight: onnx.TensorProto, folder: Path | None) -> np.ndarray:
    """Return a weight's values; the graph does not keep those that lie in a file."""
    if folder is None:
        return numpy_helper.to_array(weight)
    copy = onnx.TensorProto()
    copy.CopyFrom(weight)
    return numpy_helper.to_array(copy, str(folder))


def quantize_the_rest(ready: Mapping[str, np.ndarray]) -> Quantize:
    """Return what takes a matrix's bytes from ``ready``, by node name, and rounds the others.

    Raises:
        InputError: when called for a matrix that the bytes do not fit.
    """

    def quantize(
        matrix: np.ndarray, kind: str, importance: np.ndarray | None, name: str
    ) -> np.ndarray:
        if name not in ready:
            return quantize_nbits(matrix, kind, importance, name)
        wanted = (len(matrix), nbits_row_bytes(matrix.shape[1], kind))
        if ready[name].shape != wanted:
            raise InputError(
                f"its trained bytes have shape {ready[name].shape}, not {wanted}", where=name
            )
        return ready[name]

    return quantize


def read_matrices(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the matrices of a float32 graph by node name, each [out, in]; a tied table once."""
    graph = model.graph
    weights = {each.name: each for each in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            found[node.name] = numpy_helper.to_array(weights[node.input[1]]).T
        elif node.name == EMBEDDING:
            table, is_tied = _read_table(node, graph, weights)
            if not is_tied:
                found[node.name] = table
    return found


def narrow_graph(model: onnx.ModelProto) -> list[dict[str, str]]:
    """Store the matrices of a float32 graph as float16, each cast back where it is read.

    ONNX Runtime folds these constants when it loads, so the file is half as big and every operator
    has its float32 kernel: the CPU has none for attention in float16.

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


def _read_table(
    node: onnx.NodeProto,
    graph: onnx.GraphProto,
    weights: Mapping[str, onnx.TensorProto],
    folder: Path | None = None,
) -> tuple[np.ndarray, bool]:
    """Return the embedding [vocabulary, hidden], and whether it is the head's matrix."""
    flipped = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Transpose"}
    source = flipped.get(node.input[0])
    if source is None:
        return _read(weights[node.input[0]], folder), False
    return _read(weights[source], folder).T, True


def _names(name: str, kind: str) -> list[str]:
    """Return what an operator reads: blocks, scales and, where the type has them, zeros."""
    zeros = [name + ".zeros"] if layout_of(kind).has_zeros else []
    return [name + ".blocks", name + ".scales", *zeros]


def _matmul(
    node: onnx.NodeProto, matrix: np.ndarray, inputs: list[str], kind: str, accuracy_level: int
) -> onnx.NodeProto:
    layout = layout_of(kind)
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *inputs],
        list(node.output),
        node.name,
        domain="com.microsoft",
        K=matrix.shape[1],
        N=matrix.shape[0],
        bits=layout.bits,
        block_size=layout.block,
        accuracy_level=accuracy_level,
    )


def find_importance(name: str, importance: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return the column weights of a node's matrix; a lookup has none."""
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
