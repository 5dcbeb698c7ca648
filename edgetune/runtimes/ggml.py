"""ggml's own arithmetic, called in process: packed rows read as llama.cpp reads them.

``libggml-base`` is a library of ``llama_cpp``.
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
    traits = load_ggml().ggml_get_type_traits(GGMLQuantizationType[ggml_type].value).contents
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
def load_ggml() -> ctypes.CDLL:
    """Return ``libggml-base`` with the signatures of the functions that are called."""
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


def float_pointer(values: np.ndarray) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
