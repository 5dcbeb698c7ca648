"""ggml's own arithmetic, called in process: a Q4_K made here is llama.cpp's Q4_K, byte for byte.

``libggml-base``, a library of ``llama_cpp``, quantizes rows and reads them.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from edgetune.errors import InputError, Unsupported

# Values a call: big enough for the call to be free, small enough that threads end together. A
# matrix of 1024 x 1024 was one call of a million, and the other threads waited.
CHUNK_VALUES = 1 << 17
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
    library = _ggml()
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


def dequantize_tensor(raw: np.ndarray, ggml_type: str) -> np.ndarray:
    """Return the float32 values ``[..., columns]`` of quantized bytes ``[..., row_bytes]``.

    Raises:
        InputError: the bytes are no whole number of the type's blocks.
    """
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[ggml_type]]
    if raw.dtype != np.uint8 or not raw.flags.c_contiguous or raw.shape[-1] % size:
        raise InputError(f"not rows of {ggml_type}: {raw.dtype} of shape {raw.shape}")
    columns = raw.shape[-1] // size * block
    if ggml_type == "F32":
        return raw.view(np.float32).reshape(*raw.shape[:-1], columns)
    convert = _reader_of(ggml_type)
    rows = raw.reshape(-1, raw.shape[-1])
    out = np.empty((len(rows), columns), np.float32)
    step = max(1, CHUNK_VALUES // columns)

    def read_rows(start: int) -> None:
        part = rows[start : start + step]
        convert(part.ctypes.data, float_pointer(out[start:]), part.shape[0] * columns)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(read_rows, range(0, len(rows), step)))
    return out.reshape(*raw.shape[:-1], columns)


def needs_importance(ggml_type: str) -> bool:
    """Whether ggml aborts when this type is chosen without an importance matrix."""
    code = GGMLQuantizationType[ggml_type].value
    return bool(_ggml().ggml_quantize_requires_imatrix(code))


class _TypeTraits(ctypes.Structure):
    """``struct ggml_type_traits`` of ggml.h."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        (
            "to_float",
            ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_float), ctypes.c_int64),
        ),
        ("from_float_ref", ctypes.c_void_p),
    )


@cache
def _reader_of(ggml_type: str) -> Any:
    """Return ggml's function from a type to float32, once its table is seen to be as we read it."""
    traits = _ggml().ggml_get_type_traits(GGMLQuantizationType[ggml_type].value).contents
    found = (traits.type_name.decode().upper(), int(traits.blck_size), int(traits.type_size))
    wanted = (ggml_type, *GGML_QUANT_SIZES[GGMLQuantizationType[ggml_type]])
    if found != wanted or not traits.to_float:
        raise Unsupported(
            f"this ggml describes {ggml_type} as {found}, not {wanted}",
            where="llama-cpp-python",
            hint="install the version that constraints.txt names",
        )
    return traits.to_float


@cache
def _ggml() -> ctypes.CDLL:
    folder = Path(llama_cpp.__file__).parent / "lib"
    names = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll")
    found = [folder / name for name in names if (folder / name).exists()]
    if not found:
        raise InputError(
            "libggml-base is missing", where=str(folder), hint="reinstall llama-cpp-python"
        )
    library = ctypes.CDLL(str(found[0]))
    floats = ctypes.POINTER(ctypes.c_float)
    integer = ctypes.c_int64
    library.ggml_quantize_init.argtypes = [ctypes.c_int]
    library.ggml_quantize_init.restype = None
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, floats, ctypes.c_void_p, integer, integer, integer, floats
    ]  # fmt: skip
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_requires_imatrix.argtypes = [ctypes.c_int]
    library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    library.ggml_get_type_traits.argtypes = [ctypes.c_int]
    library.ggml_get_type_traits.restype = ctypes.POINTER(_TypeTraits)
    return library


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


def float_pointer(values: np.ndarray) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
