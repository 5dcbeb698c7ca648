"""An ONNX graph with its matrices stored as float16."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgetune.export.onnx.frame import Frame
from edgetune.export.onnx.store import WeightStore


def narrow_graph(
    frame: Frame, store: WeightStore
) -> tuple[list[onnx.NodeProto], list[dict[str, str]]]:
    """Write the matrices of a graph as float16, each cast back where it is read.

    ONNX Runtime folds these constants when it loads, so the file is half as big and every operator
    has its float32 kernel: the CPU has none for attention in float16.

    Returns:
        The nodes; ``{"tensor", "wanted", "got", "why"}`` for weights beyond float16's range.
    """
    fallbacks, casts = [], []
    for weight in frame.model.graph.initializer:
        name, values = weight.name, frame.read(weight.name)
        if weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) < 2:
            store.add(name, values)
            continue
        largest = max(float(values.max()), -float(values.min()))
        if largest > np.finfo(np.float16).max:
            why = f"its largest weight is {largest:.3g}"
            fallbacks.append({"tensor": name, "wanted": "F16", "got": "F32", "why": why})
            store.add(name, values)
            continue
        narrow, wide = name + ".float16", onnx.TensorProto.FLOAT
        store.add(narrow, values.astype(np.float16))
        casts.append(helper.make_node("Cast", [narrow], [name], name + "/Cast", to=wide))
    return [*casts, *frame.model.graph.node], fallbacks
