"""The disk that files of a plan take, asked for before they are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgetune.quantize.formats.ggml import PLAIN, row_bytes
from edgetune.quantize.formats.nbits import nbits_row_bytes

_SCALAR_BYTES = {"F32": 4.0, "F16": 2.0, "BF16": 2.0}
_ROW = 256  # a whole number of every type's blocks
_SCALE_BYTES = 2  # more than ggml's: a graph may keep scales in float32


def count_gguf_bytes(types: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the bytes of a GGUF file's tensors.

    Args:
        types: ggml type of each tensor that has one in the plan; the others are float32.
        shapes: of all tensors, outermost dimension first.
    """
    return sum(
        math.prod(shape[:-1]) * row_bytes(shape[-1], types.get(name, "F32"))
        for name, shape in shapes.items()
    )


def count_onnx_bytes(
    onnx: Mapping[str, Mapping[str, Any]], shapes: Mapping[str, tuple[int, ...]]
) -> int:
    """Return the most bytes of ONNX folders, with the float32 graph that they are made from.

    Args:
        onnx: precision to its settings, as in the plan.
        shapes: of the model's tensors; a graph may hold the largest, the embedding, twice.
    """
    if not onnx:
        return 0
    sizes = [math.prod(shape) for shape in shapes.values()]
    others = [settings for precision, settings in onnx.items() if precision != "fp32"]
    return int((sum(sizes) + max(sizes)) * (4 + sum(map(_bytes_per_weight, others))))


def _bytes_per_weight(settings: Mapping[str, Any]) -> float:
    """Return the most that a weight takes: an embedding may be wider than the layers."""
    kinds = {settings[key] for key in ("weights", "head", "embedding") if key in settings}
    return max(map(_weight_bytes, kinds | set(settings.get("types", {}).values())))


def _weight_bytes(kind: str) -> float:
    if kind in PLAIN:
        return _SCALAR_BYTES[kind]
    return nbits_row_bytes(_ROW, kind) / _ROW + _SCALE_BYTES / 32
