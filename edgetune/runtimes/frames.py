"""Messages between a process and its child: a JSON head, and an array's bytes behind it."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

import numpy as np


def write_frame(stream: BinaryIO, head: dict[str, Any], array: np.ndarray | None = None) -> None:
    """Send one message."""
    if array is not None:
        array = np.ascontiguousarray(array)
        head = {**head, "dtype": array.dtype.str, "shape": array.shape}
    raw = json.dumps(head).encode()
    stream.write(struct.pack("<I", len(raw)) + raw)
    if array is not None:
        stream.write(memoryview(array).cast("B"))
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], np.ndarray | None] | None:
    """Wait for one message; ``None`` when the other end is gone."""
    size = _read(stream, 4)
    raw = size and _read(stream, struct.unpack("<I", size)[0])
    if not raw:
        return None
    head: dict[str, Any] = json.loads(raw)
    if "dtype" not in head:
        return head, None
    array = np.empty(head["shape"], np.dtype(head["dtype"]))
    body = _read(stream, array.nbytes)
    if body is None:
        return None
    return head, np.frombuffer(body, array.dtype).reshape(array.shape)


def _read(stream: BinaryIO, count: int) -> bytes | None:
    raw = stream.read(count)
    return raw if len(raw) == count else None
