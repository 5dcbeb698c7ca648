"""A GGUF file's header read in Python, so that a broken file never reaches C.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3, little endian). The
package ``gguf`` has a reader too; it takes lengths on trust, and thirty times as long.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.errors import InputError

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", _BOOL: "?",
    10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_MAX_DIMENSIONS = 4
_MAX_NAME = 65_535  # bytes of a key or a tensor's name


class _Malformed(Exception):
    pass


@dataclass(frozen=True)
class GgufTensor:
    """A tensor's place in the file.

    Attributes:
        shape: outermost dimension first.
        type: ``F32``, ``Q4_K``, …
        offset: of its first byte in the file.
        bytes: how many it takes.
    """

    shape: tuple[int, ...]
    type: str
    offset: int
    bytes: int


@dataclass(frozen=True)
class GgufFile:
    """What a header says; the data stays on disk.

    Attributes:
        path: the file.
        keys: metadata; arrays as lists, text that is no UTF-8 with its bytes escaped.
        types: the type of each key's value, and of its elements where it is an array: numbers of
            ``gguf.GGUFValueType``.
        tensors: by name, in the file's order.
    """

    path: Path
    keys: Mapping[str, Any]
    types: Mapping[str, tuple[int, int | None]]
    tensors: Mapping[str, GgufTensor]

    def read(self, name: str) -> np.ndarray:
        """Return a tensor dequantized to float32, as llama.cpp does it."""
        tensor = self.tensors[name]
        # Read, not mapped: mapped pages would count as memory in use.
        raw = np.fromfile(self.path, "u1", tensor.bytes, offset=tensor.offset)
        return decode_tensor(raw, tensor)


def name_scheme(file: GgufFile) -> str:
    """Return what the types of a file are called: as its header says, else that of most bytes."""
    from gguf import LlamaFileType

    with suppress(ValueError, TypeError, KeyError):
        return LlamaFileType(file.keys["general.file_type"]).name.split("_", 1)[1]
    sizes: dict[str, int] = {}
    for tensor in file.tensors.values():
        sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.bytes
    return max(sizes, key=lambda name: sizes[name])


def decode_tensor(raw: np.ndarray, tensor: GgufTensor) -> np.ndarray:
    """Return the float32 values of a tensor's bytes, uint8 ``[tensor.bytes]``."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quant_shape_to_byte_shape

    if tensor.type in ("F32", "F16", "F64"):
        plain = raw.view({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[tensor.type])
        return plain.astype(np.float32, copy=False).reshape(tensor.shape)
    kind = GGMLQuantizationType[tensor.type]
    values: np.ndarray = dequantize(
        raw.reshape(quant_shape_to_byte_shape(tensor.shape, kind)), kind
    )
    return values.astype(np.float32, copy=False).reshape(tensor.shape)


def open_gguf(path: Path) -> GgufFile:
    """Read the metadata and the tensor table of ``path``; every length is held against the file.

    The last few are kept: reading a vocabulary of 150,000 tokens takes a second.

    Raises:
        InputError: not a GGUF file, of another version, cut off, or a header that does not fit the
            bytes; the place is named.
    """
    stat = path.stat()
    return _open(path, stat.st_mtime_ns, stat.st_size)


def check_gguf(path: Path) -> None:
    """Check the header without keeping anything: a vocabulary would count as a runtime's memory.

    Raises:
        InputError: as :func:`open_gguf`.
    """
    _walk(path, path.stat().st_size, keep=False)


@lru_cache(maxsize=4)
def _open(path: Path, changed: int, size: int) -> GgufFile:
    return _walk(path, size, keep=True)


def _walk(path: Path, size: int, keep: bool) -> GgufFile:
    try:
        if not size:
            raise _Malformed("it is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            return _Walk(raw, size, keep).read(path)
    except _Malformed as fault:
        raise InputError(
            f"a broken GGUF file: {fault}",
            where=f"{path} ({size} bytes)",
            hint="copy or export it again",
        ) from None


class _Walk:
    def __init__(self, raw: mmap.mmap, size: int, keep: bool) -> None:
        self.raw, self.size, self.keep, self.at = raw, size, keep, 0
        self.alignment = 32

    def read(self, path: Path) -> GgufFile:
        if self.raw[:4] != b"GGUF":
            raise _Malformed("it does not begin with the letters GGUF")
        self.at = 4
        version, tensors, pairs = self._numbers("<IQQ")
        if version not in (2, 3):
            raise _Malformed(f"version {version} at byte 4, where 2 and 3 are known")
        keys: dict[str, Any] = {}
        types: dict[str, tuple[int, int | None]] = {}
        for number in range(pairs):
            self._pair(keys, types, number)
        found: dict[str, GgufTensor] = {}
        for number in range(tensors):
            self._tensor(found, number)
        begin = -(-self.at // self.alignment) * self.alignment
        furthest = max((begin + one.offset + one.bytes for one in found.values()), default=0)
        if furthest > self.size:
            raise _Malformed(f"its tensors end at byte {furthest}, the file at byte {self.size}")
        placed = {
            name: GgufTensor(one.shape, one.type, begin + one.offset, one.bytes)
            for name, one in found.items()
        }
        return GgufFile(path, keys, types, placed)

    def _pair(
        self, keys: dict[str, Any], types: dict[str, tuple[int, int | None]], number: int
    ) -> None:
        at = self.at
        key = self._name(f"the key of metadata pair {number}")
        if key in keys:
            raise _Malformed(f"the key '{key[:64]}' occurs a second time at byte {at}")
        (kind,) = self._numbers("<I")
        begin = self.at
        inner = self._numbers("<I")[0] if kind == _ARRAY else None
        types[key] = kind, inner
        keys[key] = self._value(kind) if inner is None else self._array(inner)
        if key != "general.alignment":
            return
        self.alignment = keys[key]
        whole = kind == 4 and self.alignment % 8 == 0
        if not whole or not 8 <= self.alignment <= 1 << 16:
            raise _Malformed(f"an alignment of {self.alignment} at byte {begin}")

    def _tensor(self, found: dict[str, GgufTensor], number: int) -> None:
        at = self.at
        name = self._name(f"the name of tensor {number}")
        if name in found:
            raise _Malformed(f"the tensor '{name[:64]}' occurs a second time at byte {at}")
        label = f"tensor '{name[:64]}' at byte {at}"
        (dimensions,) = self._numbers("<I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise _Malformed(f"{label} has {dimensions} dimensions")
        *shape, kind, offset = self._numbers(f"<{dimensions}QIQ")
        count = math.prod(shape)
        if not 0 < count < 1 << 48:
            raise _Malformed(f"{label} has the shape {shape}")
        word, block, size = _types().get(kind, ("", 0, 0))
        if not block:
            raise _Malformed(f"{label} has the unknown type {kind}")
        if shape[0] % block:
            raise _Malformed(f"{label} has rows of {shape[0]}, no multiple of its block of {block}")
        if offset % self.alignment:
            raise _Malformed(f"{label} has the offset {offset}, no multiple of {self.alignment}")
        found[name] = GgufTensor(tuple(reversed(shape)), word, offset, count // block * size)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string("a metadata string")
        return self._scalars(kind, 1, "a metadata value")[0]

    def _array(self, inner: int) -> list[Any]:
        (count,) = self._numbers("<Q")
        if inner == _STRING:
            if self.at + 8 * count > self.size:
                raise _Malformed(f"an array of {count} strings runs past the end, from {self.at}")
            return [self._string("a string in a metadata array") for _ in range(count)]
        return self._scalars(inner, count, "a metadata array")

    def _scalars(self, kind: int, count: int, what: str) -> list[Any]:
        if kind not in _SCALARS:
            raise _Malformed(f"metadata of the unknown type {kind} at byte {self.at}")
        layout = np.dtype(_SCALARS[kind])
        found: list[Any] = np.frombuffer(self._take(layout.itemsize * count, what), layout).tolist()
        return found

    def _name(self, what: str) -> str:
        at = self.at
        (length,) = self._numbers("<Q")
        if _MAX_NAME < length <= self.size:
            raise _Malformed(f"{what} has {length} bytes, at byte {at}")
        name = self._take(length, what)
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            raise _Malformed(f"{what} is no UTF-8, at byte {at}") from None

    def _string(self, what: str) -> str:
        (length,) = self._numbers("<Q")
        if not self.keep:
            self._skip(length, what)
            return ""
        return self._take(length, what).decode("utf-8", "backslashreplace")

    def _take(self, count: int, what: str) -> bytes:
        at = self.at
        self._skip(count, what)
        return self.raw[at : self.at]

    def _skip(self, count: int, what: str) -> None:
        if self.at + count > self.size:
            raise _Malformed(f"{what} of {count} bytes runs past the end, from byte {self.at}")
        self.at += count

    def _numbers(self, layout: str) -> tuple[int, ...]:
        if self.at + struct.calcsize(layout) > self.size:
            raise _Malformed(f"it ends inside its header, at byte {self.at}")
        found = struct.unpack_from(layout, self.raw, self.at)
        self.at += struct.calcsize(layout)
        return found


@cache
def _types() -> dict[int, tuple[str, int, int]]:
    """Return each tensor type's name, values per block and bytes per block."""
    from gguf import GGML_QUANT_SIZES

    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
