"""ggml's own rounding, called in process: a Q4_K made here is llama.cpp's Q4_K, byte for byte.

What reads such bytes again is in :mod:`edgetune.runtimes.ggml`.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from edgetune.errors import InputError, Unsupported
from edgetune.runtimes.ggml import CHUNK_VALUES, float_pointer, load_ggml

PLAIN = ("F32", "F16", "BF16")  # rounded value by value: nothing to weigh


def row_bytes(columns: int, ggml_type: str) -> int:
    """Return the bytes of a row of ``columns`` values.

    Raises:
        Unsupported: the row is no whole number of the type's blocks.
    """
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[ggml_type]]
    if columns % block:
        raise Unsupported(
            f"rows of {columns} values cannot be {ggml_type}, whose blocks hold {block}",
            hint="choose a type with smaller blocks",
        )
    return columns // block * size


def fits_rows(columns: int, ggml_type: str) -> bool:
    """Whether a row of ``columns`` values is a whole number of the type's blocks."""
    return columns % GGML_QUANT_SIZES[GGMLQuantizationType[ggml_type]][0] == 0


def quantize_tensor(
    values: np.ndarray, ggml_type: str, importance: np.ndarray | None = None, name: str = "tensor"
) -> np.ndarray:
    """Quantize a float32 tensor ``[..., columns]`` to bytes ``[..., row_bytes]`` (uint8).

    Args:
        values: C-contiguous, finite.
        ggml_type: a ggml type name; F32, F16 and BF16 are types too.
        importance: weight of each column's rounding error, float32 ``[columns]``, or none; of
            stacked experts ``[experts, columns]`` for values ``[experts, rows, columns]``.
        name: what errors call the tensor.

    Raises:
        InputError: another dtype or layout, or a value that is not finite.
        Unsupported: rows that are no whole number of blocks.
    """
    if importance is not None and importance.ndim == 2 and values.ndim == 3:
        pairs = zip(values, importance, strict=True)
        return np.stack([quantize_tensor(each, ggml_type, own, name) for each, own in pairs])
    _check_values(values, importance, name)
    columns = values.shape[-1]
    width = row_bytes(columns, ggml_type)
    rows = values.reshape(-1, columns)
    out = np.empty((len(rows), width), np.uint8)
    code = GGMLQuantizationType[ggml_type].value
    weights = float_pointer(importance) if importance is not None else None
    library = load_ggml()
    if importance is None and needs_importance(ggml_type):
        raise Unsupported(
            f"{ggml_type} cannot be chosen without an importance matrix",
            where=name,
            hint="set quantize.imatrix: true, or choose a type of more bits",
        )
    library.ggml_quantize_init(code)
    step = max(1, CHUNK_VALUES // columns)

    def quantize_rows(start: int) -> None:
        part = rows[start : start + step]
        target = ctypes.c_void_p(out[start:].ctypes.data)
        size = library.ggml_quantize_chunk(
            code, float_pointer(part), target, 0, len(part), columns, weights
        )
        if size != len(part) * width:
            raise AssertionError(f"{name}: ggml wrote {size} bytes, not {len(part) * width}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(quantize_rows, range(0, len(rows), step)))
    return out.reshape(*values.shape[:-1], width)


def needs_importance(ggml_type: str) -> bool:
    """Whether ggml aborts when this type is chosen without an importance matrix."""
    code = GGMLQuantizationType[ggml_type].value
    return bool(load_ggml().ggml_quantize_requires_imatrix(code))


def _check_values(values: np.ndarray, importance: np.ndarray | None, name: str) -> None:
    """Refuse what ggml would read past, or turn into garbage without a word."""
    if values.dtype != np.float32 or not values.flags.c_contiguous or values.ndim < 1:
        raise InputError("only C-contiguous float32 can be quantized", where=name)
    flat = values.reshape(-1)
    parts = (flat[at : at + CHUNK_VALUES] for at in range(0, flat.size, CHUNK_VALUES))
    # A sum is finite where all its terms are; one that overflows is looked at term by term.
    odd = [part for part in parts if not np.isfinite(part.sum())]
    count = sum(int((~np.isfinite(part)).sum()) for part in odd)
    if count:
        raise InputError(
            f"{count} of {values.size} weights are NaN or infinite",
            where=name,
            hint="the training diverged: lower the learning rate",
        )
    if importance is None:
        return
    if importance.dtype != np.float32 or importance.shape != values.shape[-1:]:
        raise InputError(
            f"importance has shape {importance.shape}, not {values.shape[-1:]} (float32)",
            where=name,
        )
    if not np.isfinite(importance).all() or (importance < 0).any():
        raise InputError("importance must be finite and not negative", where=name)
