"""Write a safetensors file tensor by tensor, so that one is in memory at a time.

The format: 8 bytes of header length, a JSON header, the tensors without a gap
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgetune.errors import Unsupported
from edgetune.models.checkpoint import Header

_NAMES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_KINDS = {name: kind for kind, name in _NAMES.items()}


@dataclass(frozen=True)
class Entry:
    """A tensor to write.

    Attributes:
        name: of the new tensor.
        source: name of the tensor that it is made of.
        shape: of the new one.
        kind: its dtype.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    kind: torch.dtype

    @property
    def bytes(self) -> int:
        """What it takes on disk."""
        return math.prod(self.shape) * self.kind.itemsize


def written_kind(name: str, header: Header, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that a stored tensor becomes: ``dtype``, if it holds floats.

    Raises:
        Unsupported: it holds something else than plain numbers.
    """
    kind = _KINDS.get(header.dtype)
    if kind is None:
        raise Unsupported(
            f"'{name}' is stored as {header.dtype}, which cannot be merged",
            where=str(header.file),
            hint="merge into the 16-bit model",
        )
    return dtype if kind.is_floating_point else kind


def write_shard(
    target: Path,
    entries: Sequence[Entry],
    make: Callable[[Entry], torch.Tensor],
    metadata: dict[str, str],
) -> None:
    """Write a safetensors file; it is renamed into place when it is whole.

    Args:
        target: the new file.
        entries: its tensors.
        make: returns one of them.
        metadata: of the file.
    """
    at = 0
    ordered = sorted(entries, key=lambda one: (-one.kind.itemsize, one.name))
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    for entry in ordered:
        table[entry.name] = {
            "dtype": _NAMES[entry.kind], "shape": list(entry.shape),
            "data_offsets": [at, at + entry.bytes],
        }  # fmt: skip
        at += entry.bytes
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in ordered:
            value = make(entry)
            if tuple(value.shape) != entry.shape or value.dtype != entry.kind:
                raise AssertionError(f"{entry.name} became {value.dtype} {list(value.shape)}")
            if value.numel():
                file.write(value.contiguous().view(torch.uint8).numpy().reshape(-1).data)
    part.replace(target)
