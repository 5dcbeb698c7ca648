"""An ONNX graph from anyone, looked at before a runtime opens it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from edgetune.errors import InputError


def open_onnx(path: Path) -> Any:
    """Return the ``ModelProto`` without the weights that lie in other files, all places checked.

    A graph may name files for its weights: each must lie in the graph's own folder and hold the
    bytes it is said to hold. ONNX's own rule (docs/ExternalData.md) forbids paths that lead out.

    Raises:
        InputError: no ONNX model, or a weight elsewhere or beyond its file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise InputError(f"not an ONNX model: {error}", where=str(path)) from error
    for tensor in _tensors(model.graph):
        fault = _find_fault(tensor, path)
        if fault:
            raise InputError(
                f"the weight '{tensor.name[:64]}' {fault}",
                where=str(path),
                hint="a graph may only name files beside it; export it again",
            )
    return model


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every stored tensor, those of nested graphs too."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield from graph.initializer
        for one in graph.sparse_initializer:
            yield from (one.values, one.indices)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting += attribute.graphs


def _find_fault(tensor: Any, path: Path) -> str | None:
    import onnx

    if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) >= 1 << 48:
        return f"has the shape {list(tensor.dims)}"
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return None
    given = {entry.key: entry.value for entry in tensor.external_data}
    name = given.get("location", "")
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        return f"lies at '{name[:80]}', outside the model's folder"
    file = path.parent / name
    folder = path.parent.resolve()
    if not file.is_file():
        return f"lies in '{name[:80]}', which is not there"
    # The cache of a model hub links whole snapshots; a link of the weights alone leads elsewhere.
    if file.is_symlink() != path.is_symlink() or (
        not path.is_symlink() and folder not in file.resolve().parents
    ):
        return f"lies in '{name[:80]}', a link out of the model's folder"
    try:
        first = int(given.get("offset", 0))
        length = int(given.get("length", file.stat().st_size - first))
    except ValueError:
        return f"has no place that can be read: {dict(given)}"
    if first < 0 or length < 0 or first + length > file.stat().st_size:
        return f"lies at bytes {first} to {first + length} of '{name}', beyond its end"
    return None
