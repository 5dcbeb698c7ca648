"""llama.cpp's own quantizer, asked which type a scheme gives each tensor."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from gguf import LlamaFileType

from edgetune.errors import Unsupported
from edgetune.recipe import GGUF_SCHEMES
from edgetune.runtimes.ggml import float_pointer

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
        reason = " ".join(text.strip() for level, text in lines if level >= _ERROR)
        raise Unsupported(f"llama.cpp cannot quantize to {scheme}: {reason}", where=str(source))
    return "".join(text for _, text in lines)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, _: Any) -> None:
    """Swallow llama.cpp's log: hundreds of lines a file."""


def _imatrix_array(importance: Mapping[str, np.ndarray]) -> ctypes.Array[Any]:
    """Return llama.cpp's array of (name, values, size), ended by an empty entry."""
    kind = llama_cpp.llama_model_imatrix_data
    entries = [kind(name.encode(), float_pointer(v), v.size) for name, v in importance.items()]
    return (kind * (len(entries) + 1))(*entries, kind(None, None, 0))
