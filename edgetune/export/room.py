"""The disk that files of a plan take, asked for before they are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgetune.quantize.formats.ggml import PLAIN, row_bytes
from edgetune.quantize.formats.nbits import fits_nbits, nbits_row_bytes

_SCALAR_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


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
    onnx: Mapping[str, Mapping[str, Any]],
    shapes: Mapping[str, tuple[int, ...]],
    vocabulary: int | None,
) -> int:
    """Return the most bytes of ONNX folders: a searched one as if its widest type were every one's.

    Args:
        onnx: precision to its settings, as in the plan.
        shapes: of the model's tensors.
        vocabulary: rows of the embedding and the head.
    """
    total = 0
    for settings in onnx.values():
        searched = settings.get("types", {}).values()
        inner = {settings["weights"], *searched}
        tables = {settings.get(key, settings["weights"]) for key in ("head", "embedding")}
        for shape in shapes.values():
            kinds = tables.union(searched) if shape[0] == vocabulary else inner
            total += max(_matrix_bytes(shape, kind) for kind in kinds)
    return total


def _matrix_bytes(shape: tuple[int, ...], kind: str) -> int:
    size = math.prod(shape)
    if len(shape) < 2 or (kind not in PLAIN and not fits_nbits(shape[-1], kind)):
        return 4 * size
    if kind in PLAIN:
        return _SCALAR_BYTES[kind] * size
    return size // shape[-1] * nbits_row_bytes(shape[-1], kind)
