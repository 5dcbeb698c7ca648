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
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgetune.errors import InputError, Unsupported
from edgetune.export.onnx.embedding import look_up
from edgetune.export.onnx.frame import Frame
from edgetune.export.onnx.store import WeightStore
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
        made: what adds the new weights to a store, in their order.
        names: inputs of the operators whose weights are made, by name of the node.
        casts: nodes that widen scales.
        fallbacks: ``{"tensor", "wanted", "got", "why"}``.
    """

    importance: Mapping[str, np.ndarray]
    quantize: Quantize
    made: list[Callable[[WeightStore], None]] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)
    casts: list[onnx.NodeProto] = field(default_factory=list)
    fallbacks: list[dict[str, str]] = field(default_factory=list)

    def fits(self, name: str, matrix: _Matrix, kind: str) -> bool:
        """Whether rows are whole blocks; one that is not falls back to float32."""
        columns = matrix.shape[1]
        if fits_nbits(columns, kind):
            return True
        why = f"rows of {columns} are no multiple of {layout_of(kind).block}"
        self.fallbacks.append({"tensor": name, "wanted": kind, "got": "F32", "why": why})
        return False

    def pack(self, name: str, matrix: _Matrix, kind: str, is_matmul: bool = True) -> list[str]:
        """Have a matrix quantized, a tied table once; return the names of an operator's inputs."""
        if name in self.names:
            return self.names[name]
        zeros = [name + ".zeros"] if layout_of(kind).has_zeros else []
        self.names[name] = [name + ".blocks", name + ".scales", *zeros]
        weighed = find_importance(name if is_matmul else "", self.importance)
        scales = name + ".scales"

        def make(store: WeightStore) -> None:
            packed = unpack_rows(self.quantize(matrix.read(), kind, weighed, name), kind)
            store.add(name + ".blocks", packed.quants_RBY)
            store.add(scales + ".float16", packed.scales_RB)
            if packed.zeros_RY is not None:
                store.add(name + ".zeros", packed.zeros_RY)

        self.made.append(make)
        wide = onnx.TensorProto.FLOAT
        cast = helper.make_node("Cast", [scales + ".float16"], [scales], scales + "/Cast", to=wide)
        self.casts.append(cast)
        return self.names[name]


@dataclass(frozen=True)
class _Matrix:
    """A weight of a frame as ggml has it, [out, in].

    Attributes:
        frame: of the weight.
        name: of the initializer.
        is_flipped: whether the graph has it as [in, out].
    """

    frame: Frame
    name: str
    is_flipped: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.frame.shapes[self.name]
        return (columns, rows) if self.is_flipped else (rows, columns)

    def read(self) -> np.ndarray:
        """Return the values."""
        values = self.frame.read(self.name)
        return values.T if self.is_flipped else values


def quantize_graph(
    frame: Frame,
    store: WeightStore,
    settings: dict[str, Any],
    importance: Mapping[str, np.ndarray],
    quantize: Quantize = quantize_nbits,
) -> tuple[list[onnx.NodeProto], list[dict[str, str]]]:
    """Write the weights of a graph as blocks; return its nodes and what stays wide.

    Args:
        frame: the graph.
        store: for the weights, one in memory at a time.
        settings: ``weights``, ``head`` and ``embedding`` types, ``accuracy_level``; ``types`` has
            those of single nodes, by name. A tied table has the type of the head there.
        importance: GGUF tensor name to column weights; may be empty.
        quantize: what makes the bytes.

    Returns:
        The nodes; ``{"tensor", "wanted", "got", "why"}`` for weights whose rows are no whole
        blocks.

    Raises:
        InputError: ``types`` has a node that the graph has not: the plan is of another model.
        Unsupported: no weight has rows of whole blocks.
    """
    graph, types = frame.model.graph, settings.get("types", {})
    packing = _Packing(importance, quantize)
    _refuse_unknown(types, graph)
    matrices = _find_matrices(frame)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        matrix = matrices.get(node.name)
        if matrix is None:
            nodes.append(node)
        elif node.name == EMBEDDING:
            is_tied = matrix.is_flipped
            own = types.get(HEAD if is_tied else EMBEDDING, settings["embedding"])
            head = types.get(HEAD, settings["head"])
            prefix = HEAD if is_tied and own == head else EMBEDDING
            if packing.fits(node.name, matrix, own):
                inputs = packing.pack(prefix, matrix, own, is_tied)
                found, constants = look_up(node, inputs, layout_of(own))
                packing.made.append(partial(_add_all, constants))
                nodes += found
            else:
                nodes.append(node)
        else:
            kind = types.get(node.name, settings["head" if node.name == HEAD else "weights"])
            if packing.fits(node.name, matrix, kind):
                inputs = packing.pack(node.name, matrix, kind)
                node = _matmul(node, matrix.shape, inputs, kind, settings["accuracy_level"])
            nodes.append(node)
    nodes = _drop_unread(graph, [*packing.casts, *nodes])
    read = {name for node in nodes for name in node.input}
    for each in graph.initializer:
        if each.name in read:
            store.add(each.name, frame.read(each.name))
    for make in packing.made:
        make(store)
    return nodes, packing.fallbacks


def _refuse_unknown(types: Mapping[str, str], graph: onnx.GraphProto) -> None:
    unknown = sorted(set(types) - {node.name for node in graph.node})
    if unknown:
        raise InputError(
            f"the plan has types for {len(unknown)} nodes that the graph has not",
            where=unknown[0],
            hint="run edgetune quantize on this model",
        )


def _add_all(constants: Mapping[str, np.ndarray], store: WeightStore) -> None:
    for name, values in constants.items():
        store.add(name, values)


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


def read_matrices(frame: Frame) -> dict[str, np.ndarray]:
    """Return the matrices of a graph by node name, each [out, in]; a tied table once."""
    return {
        name: matrix.read()
        for name, matrix in _find_matrices(frame).items()
        if name != EMBEDDING or not matrix.is_flipped
    }


def _find_matrices(frame: Frame) -> dict[str, _Matrix]:
    """Return the weights that nodes multiply with or look up in, by name of the node."""
    graph, shapes = frame.model.graph, frame.shapes
    flipped = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Transpose"}
    found = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in shapes:
            found[node.name] = _Matrix(frame, node.input[1], True)
        elif node.name == EMBEDDING:  # of the head's matrix where that is tied
            source = flipped.get(node.input[0])
            found[node.name] = _Matrix(frame, source or node.input[0], source is not None)
    return found


def _matmul(
    node: onnx.NodeProto, shape: tuple[int, int], inputs: list[str], kind: str, accuracy_level: int
) -> onnx.NodeProto:
    layout = layout_of(kind)
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *inputs],
        list(node.output),
        node.name,
        domain="com.microsoft",
        K=shape[1],
        N=shape[0],
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


def _drop_unread(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the nodes without transposes that nothing reads any more."""
    if not any(node.op_type == "MatMulNBits" for node in nodes):
        raise Unsupported("no weight of the graph has rows of whole blocks")
    read = {name for node in nodes for name in node.input} | {o.name for o in graph.output}
    return [n for n in nodes if n.op_type != "Transpose" or n.output[0] in read]
