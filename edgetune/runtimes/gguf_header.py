"""A GGUF file's header read in Python, so that a broken file never reaches C.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3, little endian).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from edgetune.errors import InputError

_STRING, _ARRAY = 8, 9
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_MAX_DIMENSIONS = 4


class _Malformed(Exception):
    pass


def check_gguf(path: Path) -> None:
    """Walk the metadata and the tensor table of ``path``.

    Raises:
        InputError: not a GGUF file, of another version, or cut off.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            _Walk(file, size).header()
    except _Malformed as fault:
        raise InputError(
            f"a broken GGUF file: {fault}",
            where=f"{path} ({size} bytes)",
            hint="copy or export it again",
        ) from None


class _Walk:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def header(self) -> None:
        if self.file.read(4) != b"GGUF":
            raise _Malformed("it does not begin with the letters GGUF")
        version, tensors, pairs = self._numbers("<IQQ")
        if version not in (2, 3):
            raise _Malformed(f"version {version}, where 2 and 3 are known")
        for number in range(pairs):
            self._skip_string(f"metadata key {number} of {pairs}")
            (kind,) = self._numbers("<I")
            self._skip_value(kind)
        furthest = 0
        for number in range(tensors):
            furthest = max(furthest, self._tensor_offset(number, tensors))
        if tensors and self.file.tell() + furthest >= self.size:
            raise _Malformed(f"its last tensor begins at or behind byte {self.size}, its end")

    def _tensor_offset(self, number: int, tensors: int) -> int:
        self._skip_string(f"name of tensor {number} of {tensors}")
        (dimensions,) = self._numbers("<I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise _Malformed(f"tensor {number} has {dimensions} dimensions")
        *shape, _, offset = self._numbers(f"<{dimensions}QIQ")
        if 0 in shape:
            raise _Malformed(f"tensor {number} has the shape {shape}")
        return int(offset)

    def _skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self._skip_string("a metadata string")
        elif kind == _ARRAY:
            inner, count = self._numbers("<IQ")
            if inner == _STRING:
                for _ in range(count):
                    self._skip_string("a string in a metadata array")
            else:
                self._skip(count * self._scalar_bytes(inner), "a metadata array")
        else:
            self._skip(self._scalar_bytes(kind), "a metadata value")

    def _scalar_bytes(self, kind: int) -> int:
        if kind not in _SCALAR_BYTES:
            raise _Malformed(f"metadata of the unknown type {kind} at byte {self.file.tell()}")
        return _SCALAR_BYTES[kind]

    def _skip_string(self, what: str) -> None:
        (length,) = self._numbers("<Q")
        self._skip(length, what)

    def _skip(self, count: int, what: str) -> None:
        if self.file.tell() + count > self.size:
            raise _Malformed(f"{what} runs past the end")
        self.file.seek(count, 1)

    def _numbers(self, layout: str) -> tuple[int, ...]:
        raw = self.file.read(struct.calcsize(layout))
        if len(raw) < struct.calcsize(layout):
            raise _Malformed("it ends inside its header")
        return struct.unpack(layout, raw)
