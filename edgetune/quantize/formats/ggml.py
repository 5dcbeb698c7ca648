"""ggml's own arithmetic, called in process: a Q4_K made here is llama.cpp's Q4_K, byte for byte.

``libggml-base`` quantizes rows; ``llama_model_quantize`` is asked, without doing the work, which
type it would give each tensor. Both libraries lie beside ``llama_cpp``.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from edgetune.errors import InputError, Unsupported
from edgetune.recipe import GGUF_SCHEMES

# Values a call: big enough for the call to be free, small enough that threads end together. A
# matrix of 1024 x 1024 was one call of a million, and the other threads waited.
CHUNK_VALUES = 1 << 17
PLAIN = ("F32", "F16", "BF16")  # rounded value by value: nothing to weigh
_ERROR = 4  # GGML_LOG_LEVEL_ERROR
# What llama_model_quantize logs: «[ 1/ 48] name - [ 64, 512, 1, 1], type = f32, size = … (q8_0)» …
_TENSOR = re.compile(
    r"\[ *\d+/ *\d+\] +(\S+) +- \[.*?\], +type = +(\w+), +size = [^\n]*?(?:\((\w+)\))?\n"
)
# … and, before it, «warning: name - ncols 64 not divisible by 256 (required for type q4_K) … -> …»
_FALLBACK = re.compile(
    r"warning: (\S+) +- +(ncols +\d+ not divisible by +\d+) +\(required for type +(\w+)\)"
    r"[^\n]*?-> falling back to +(\w+)"
)


@dataclass(frozen=True)
class TypeMix:
    """The ggml type of every tensor of a file, and where the scheme's own choice did not fit.

    Attributes:
        types: tensor name to ggml type name, such as ``Q4_K``.
        fallbacks: ``{"tensor", "wanted", "got", "why"}`` for rows a type cannot hold.
    """

    types: dict[str, str]
    fallbacks: list[dict[str, str]] = field(default_factory=list)


def file_type(scheme: str) -> LlamaFileType | None:
    """Return llama.cpp's number for a scheme, ``general.file_type`` of the file.

    None for a mix of our own: llama.cpp then names the file by its commonest type.
    """
    if scheme not in GGUF_SCHEMES:
        return None
    return LlamaFileType["ALL_F32" if scheme == "F32" else f"MOSTLY_{scheme}"]


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
    weights = _float_pointer(importance) if importance is not None else None
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
            code, _float_pointer(part), target, 0, len(part), columns, weights
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
        convert(part.ctypes.data, _float_pointer(out[start:]), part.shape[0] * columns)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(read_rows, range(0, len(rows), step)))
    return out.reshape(*raw.shape[:-1], columns)


def needs_importance(ggml_type: str) -> bool:
    """Whether ggml aborts when this type is chosen without an importance matrix."""
    code = GGMLQuantizationType[ggml_type].value
    return bool(_ggml().ggml_quantize_requires_imatrix(code))


def stock_types(
    source: Path, scheme: str, importance: Mapping[str, np.ndarray] | None = None
) -> TypeMix:
    """Return the types llama.cpp's quantizer gives the tensors of an F32 GGUF file.

    The quantizer itself is asked (``dry_run``), because its choice depends on layer, shape,
    architecture and on whether there is an importance matrix.

    Raises:
        Unsupported: llama.cpp cannot read the file or quantize it so.
    """
    log = run_quantizer(source, Path(os.devnull), scheme, importance, dry_run=True)
    types = {name: (new or old).upper() for name, old, new in _TENSOR.findall(log)}
    fallbacks = [
        {"tensor": name, "wanted": wanted.upper(), "got": got.upper(), "why": " ".join(why.split())}
        for name, why, wanted, got in _FALLBACK.findall(log)
    ]
    if not types:
        raise Unsupported(f"llama.cpp names no tensor for {scheme}", where=str(source))
    return TypeMix(types, fallbacks)


def run_quantizer(
    source: Path,
    target: Path,
    scheme: str,
    importance: Mapping[str, np.ndarray] | None = None,
    dry_run: bool = False,
) -> str:
    """Run ``llama_model_quantize`` and return what it logged.

    Raises:
        Unsupported: it failed; the last lines it wrote at error level are in the message.
    """
    lines: list[tuple[int, str]] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def keep(level: int, text: bytes, _: Any) -> None:
        lines.append((level, text.decode("utf-8", "replace")))

    llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
    try:
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = int(LlamaFileType["ALL_F32" if scheme == "F32" else f"MOSTLY_{scheme}"])
        params.dry_run = dry_run
        entries = _imatrix_array(importance) if importance else None
        if entries is not None:
            params.imatrix = entries
        code = llama_cpp.llama_model_quantize(
            os.fsencode(source), os.fsencode(target), ctypes.byref(params)
        )
    finally:
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    if code:
        said = " ".join(text.strip() for level, text in lines if level >= _ERROR)
        raise Unsupported(f"llama.cpp cannot quantize to {scheme}: {said}", where=str(source))
    return "".join(text for _, text in lines)


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


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, _: Any) -> None:
    """Swallow llama.cpp's log: hundreds of lines a file."""


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


def _imatrix_array(importance: Mapping[str, np.ndarray]) -> ctypes.Array[Any]:
    """Return llama.cpp's array of (name, values, size), ended by an empty entry."""
    kind = llama_cpp.llama_model_imatrix_data
    entries = [kind(name.encode(), _float_pointer(v), v.size) for name, v in importance.items()]
    return (kind * (len(entries) + 1))(*entries, kind(None, None, 0))


def _float_pointer(values: np.ndarray) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
