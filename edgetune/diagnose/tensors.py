"""The weights of a model as named float32 arrays, read one at a time, whatever the container."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgetune.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class Entry:
    """A tensor's shape, outermost dimension first, and how it is stored (``F32``, ``Q4_K``, …)."""

    shape: tuple[int, ...]
    type: str


class Tensors(Protocol):
    """A container's weights."""

    entries: dict[str, Entry]

    def read(self, name: str) -> np.ndarray:
        """Return one tensor in float32."""


_FLOATS = {1: "F32", 10: "F16", 16: "BF16"}  # onnx.TensorProto.DataType
_EMBEDDING = "model.embed_tokens.weight"


class FolderTensors:
    """Safetensors of a Hugging Face folder. A tied head is listed under its own name once only."""

    def __init__(self, folder: Path) -> None:
        self._checkpoint = Checkpoint(folder)
        self.entries = {
            name: Entry(header.shape, header.dtype)
            for name, header in self._checkpoint.headers.items()
        }

    def read(self, name: str) -> np.ndarray:
        values: np.ndarray = self._checkpoint.read(name).float().numpy()
        return values


class GgufTensors:
    """Tensors of a GGUF file, dequantized as llama.cpp does."""

    def __init__(self, path: Path) -> None:
        from edgetune.runtimes.gguf_header import open_gguf

        self._file = open_gguf(path)
        self.keys = self._file.keys
        self.entries = {
            name: Entry(tensor.shape, tensor.type) for name, tensor in self._file.tensors.items()
        }

    def read(self, name: str) -> np.ndarray:
        return self._file.read(name)


@dataclass(frozen=True)
class _Table:
    """An embedding [rows, width] in blocks: initializers, and how they are read."""

    parts: list[str]
    rows: int
    width: int
    bits: int
    block: int


class OnnxTensors:
    """LogitComparison of an ONNX graph: matrices by the name of their MatMul node, ``[in, out]``.

    Blocks of MatMulNBits are dequantized; float16 behind a Cast, and a tied head behind a
    Transpose, are read through it. What no MatMul reads goes by its initializer's name.
    """

    def __init__(self, folder: Path, file: str) -> None:
        import onnx

        self._graph = onnx.load(folder / file).graph
        self._found = {one.name: one for one in self._graph.initializer}
        self._made = {out: node for node in self._graph.node for out in node.output}
        self._nodes: dict[str, Any] = {}
        self.entries: dict[str, Entry] = {}
        read: set[str] = set()
        self._table = self._find_table()
        for node in self._graph.node:
            if node.op_type == "MatMulNBits":
                settings = {one.name: one.i for one in node.attribute}
                entry = Entry((settings["K"], settings["N"]), f"int{settings['bits']}")
            elif node.op_type == "MatMul" and (found := self._stored(node.input[1])):
                dims, kind, flipped = found
                entry = Entry(dims[::-1] if flipped else dims, kind)
            else:
                continue
            name = node.name.removesuffix("_Q4").removesuffix("_Q8")
            self._nodes[name], self.entries[name] = node, entry
            read |= {self._origin(part) for part in node.input[1:]}
        if self._table and self._table.parts[0] not in read:  # else it is the head's
            rows, width, bits = self._table.rows, self._table.width, self._table.bits
            self.entries[_EMBEDDING] = Entry((rows, width), f"int{bits}")
            read |= set(self._table.parts)
        # A narrow table behind a Cast is known by the name of what the Cast gives.
        self._narrow = {
            node.input[0]: node.output[0] for node in self._graph.node if node.op_type == "Cast"
        }
        for name, one in self._found.items():
            if name not in read and one.data_type in _FLOATS:
                entry = Entry(tuple(one.dims), _FLOATS[one.data_type])
                self.entries[self._narrow.get(name, name)] = entry
        self._stored_as = {given: name for name, given in self._narrow.items()}

    def read(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        node = self._nodes.get(name)
        if node is None and name == _EMBEDDING and self._table:
            table = self._table
            parts = [numpy_helper.to_array(self._found[part]) for part in table.parts]
            settings = {
                "bits": table.bits, "block_size": table.block, "K": table.width, "N": table.rows
            }  # fmt: skip
            return np.ascontiguousarray(unpack_blocks(parts, settings).T)
        if node is None:
            stored = self._found[name if name in self._found else self._stored_as[name]]
            return np.asarray(numpy_helper.to_array(stored)).astype(np.float32)
        if node.op_type == "MatMul":
            return self._values(node.input[1])
        settings = {one.name: one.i for one in node.attribute}
        names = [self._origin(part) for part in node.input[1:] if part]
        parts = [numpy_helper.to_array(self._found[name]) for name in names]
        return unpack_blocks(parts, settings)

    def _find_table(self) -> _Table | None:
        """Return an embedding in blocks, as ``export/onnx/embedding.py`` writes it."""
        for node in self._graph.node:
            if node.op_type == "GatherBlockQuantized" and node.input[1] == "input_ids":
                settings = {one.name: one.i for one in node.attribute}
                names = [self._origin(n) for n in (node.input[0], *node.input[2:]) if n]
                return self._table_of(names, settings["bits"], settings["block_size"])
            if node.name == "/model/embed_tokens/Gather/quants":  # 8 bits, standard operators
                scales = self._made.get("/model/embed_tokens/Gather/scales")
                if scales is not None and node.input[0] in self._found:
                    block = self._found[node.input[0]].dims[-1]
                    names = [node.input[0], self._origin(scales.input[0])]
                    return self._table_of(names, 8, block)
        return None

    def _table_of(self, parts: list[str], bits: int, block: int) -> _Table | None:
        if not all(part in self._found for part in parts):
            return None
        dims = self._found[parts[0]].dims
        return _Table(parts, dims[0], math.prod(dims[1:]) * 8 // bits, bits, block)

    def _origin(self, name: str) -> str:
        """Return the initializer that ``name`` is a cast or another shape of, or ``name``."""
        producer = self._made.get(name)
        while (
            producer is not None
            and producer.op_type in ("Cast", "Reshape")
            and name not in self._found
        ):
            name = producer.input[0]
            producer = self._made.get(name)
        return name

    def _stored(self, name: str) -> tuple[tuple[int, ...], str, bool] | None:
        if name in self._found:
            one = self._found[name]
            return tuple(one.dims), _FLOATS.get(one.data_type, str(one.data_type)), False
        node = self._made.get(name)
        if node is None or node.op_type not in ("Cast", "Transpose"):
            return None
        found = self._stored(node.input[0])
        if found is None:
            return None
        return found[0], found[1], found[2] ^ (node.op_type == "Transpose")

    def _values(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        if name in self._found:
            return np.asarray(numpy_helper.to_array(self._found[name])).astype(np.float32)
        node = self._made[name]
        values = self._values(node.input[0])
        return values.T if node.op_type == "Transpose" else values


def unpack_blocks(parts: list[np.ndarray], settings: dict[str, int]) -> np.ndarray:
    """Return the float32 ``[K, N]`` weight of a MatMulNBits node.

    The layout is that of ONNX Runtime's contrib operators: weights ``[N, blocks, bytes]``, low
    nibble first, scales ``[N * blocks]``, zero points packed likewise or 2^(bits-1).
    """
    bits, size = settings["bits"], settings["block_size"]
    columns, rows = settings["K"], settings["N"]
    packed, scales = parts[0].reshape(rows, -1), parts[1].astype(np.float32).reshape(rows, -1)
    blocks = scales.shape[1]
    values = _unpack(packed.reshape(rows, blocks, -1), bits, size)
    zeros = np.full((rows, blocks), 1 << (bits - 1), np.float32)
    if len(parts) > 2:
        zeros = _unpack(parts[2].reshape(rows, 1, -1), bits, blocks)[:, 0, :blocks]
    weight = (values - zeros[..., None]) * scales[..., None]
    return np.ascontiguousarray(weight.reshape(rows, -1)[:, :columns].T)


def _unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    packed = packed.astype(np.uint8)
    if bits == 8:
        return packed[..., :count].astype(np.float32)
    per = 8 // bits
    mask = (1 << bits) - 1
    parts = [(packed >> (bits * k)) & mask for k in range(per)]
    return np.stack(parts, -1).reshape(*packed.shape[:-1], -1)[..., :count].astype(np.float32)
