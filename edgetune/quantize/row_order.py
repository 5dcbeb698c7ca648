"""The order of a model's rows in a GGUF file, whose converter permutes some of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetune.errors import Unsupported
from edgetune.quantize.weights import Weight
from edgetune.runtimes.gguf_header import GgufFile


def order_like(file_rows: np.ndarray, model_rows: np.ndarray) -> np.ndarray | None:
    """Return the model's row at each row of the file, or none.

    llama.cpp's converter puts the rows of q and k in another order; nothing else moves.

    Args:
        file_rows: float32 [R, C] of an F32 file.
        model_rows: float32 [R, C] of the same matrix in torch.
    """
    if file_rows.shape != model_rows.shape:
        return None
    if np.array_equal(file_rows, model_rows):
        return np.arange(len(model_rows))
    places: dict[bytes, list[int]] = {}
    for number, row in enumerate(model_rows):
        places.setdefault(row.tobytes(), []).append(number)
    found = [places.get(row.tobytes(), []) for row in file_rows]
    if any(len(each) != 1 for each in found):
        return None  # a row that is not there, or two that are alike
    return np.array([each[0] for each in found])


def order_rows(rows: np.ndarray, source: GgufFile, weight: Weight, model: Any) -> np.ndarray:
    """Return a tensor's bytes as a GGUF file has them: rows in the order of the F32 file.

    Args:
        rows: bytes [R, row bytes], in the model's order.
        source: the model as an F32 file.
        weight: the tensor.
        model: in torch.

    Raises:
        Unsupported: its rows are not those of the model in some order.
    """
    order = order_like(source.read(weight.tensor), weight.read(model))
    if order is None:
        raise Unsupported(
            "its rows in the file are not those of the model",
            where=weight.tensor,
            hint="set quantize.method: rtn for this architecture",
        )
    return np.ascontiguousarray(rows[order])
