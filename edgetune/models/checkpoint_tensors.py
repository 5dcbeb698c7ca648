"""The weights of a model folder as they lie on disk, read one tensor at a time.

Read, not mapped: the pages of a mapped file count as memory in use until it is closed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from gguf.utility import LocalTensor, SafetensorsLocal

from edgetune.errors import InputError, Unsupported
from edgetune.models.checkpoint import Checkpoint

CHUNK_BYTES = 256 << 10  # read at a time: small enough to stay in a core's cache
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip
_LAYOUTS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
# The bits of an exponent: all of them are set in infinities and NaN alone (IEEE 754, 3.4).
_EXPONENTS = {
    "F64": ("<u8", 0x7FF << 52), "F32": ("<u4", 0xFF << 23), "F16": ("<u2", 0x1F << 10),
    "BF16": ("<u2", 0xFF << 7),
}  # fmt: skip


class CheckpointTensors(Mapping[str, torch.Tensor]):
    """Tensor name to its values in float32, read again each time.

    Attributes:
        shapes: of all tensors, without reading them.
    """

    def __init__(self, folder: Path) -> None:
        self._ranges: dict[str, LocalTensor] = {}
        for shard in Checkpoint(folder).files:
            self._ranges |= SafetensorsLocal(shard).tensors
        self.shapes = {name: tuple(one.shape) for name, one in self._ranges.items()}

    def __getitem__(self, name: str) -> torch.Tensor:
        if self._ranges[name].dtype not in _DTYPES:
            raise Unsupported(
                f"weights are stored as {self._ranges[name].dtype}, which is no float", where=name
            )
        return read_float32(self._ranges[name])

    def read_stored_dtype(self, name: str) -> torch.Tensor:
        """Return a tensor in the dtype it is stored in."""
        stored = self._ranges[name]
        (raw,) = _chunks(stored, "u1", stored.data_range.size)
        return torch.from_numpy(raw).view(_DTYPES[stored.dtype]).view(self.shapes[name])

    def read_rows(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """Return some rows ``[N, columns]`` of a matrix in float32, the others unread."""
        stored = self._ranges[name]
        width = stored.data_range.size // stored.shape[0]
        found = torch.empty((len(rows), width), dtype=torch.uint8)
        with Path(stored.data_range.filename).open("rb", buffering=0) as file:
            for place, row in enumerate(rows.tolist()):
                file.seek(stored.data_range.offset + row * width)
                file.readinto(found[place].numpy().data)
        return found.view(_DTYPES[stored.dtype]).float()

    def __contains__(self, name: object) -> bool:
        return name in self._ranges

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    def check_finite(self) -> None:
        """Refuse weights that no file can hold, before the work: 0.5 s a gigabyte.

        Raises:
            InputError: a tensor has NaN or infinite values; it is named, with their number.
        """
        for name, stored in self._ranges.items():
            if stored.dtype not in _EXPONENTS:
                continue
            layout, mask = _EXPONENTS[stored.dtype]
            count = sum(int(((raw & mask) == mask).sum()) for raw in _chunks(stored, layout))
            if count:
                raise InputError(
                    f"{count} of {math.prod(stored.shape)} weights are NaN or infinite",
                    where=f"{stored.data_range.filename}: {name}",
                    hint="the training diverged: lower the learning rate",
                )


def read_float32(stored: LocalTensor) -> torch.Tensor:
    """Return a tensor of floats on disk in float32; its own values are never there as a whole.

    By numpy: torch would wake all threads for each chunk, which then spin where others work.
    """
    values = np.empty(tuple(stored.shape), np.float32)
    flat, done = values.reshape(-1), 0
    wide = stored.dtype == "BF16"  # the upper half of a float32
    for raw in _chunks(stored, "<u2" if wide else _LAYOUTS[stored.dtype]):
        target = flat[done : done + len(raw)]
        if wide:
            np.left_shift(raw, 16, out=target.view(np.uint32), dtype=np.uint32)
        else:
            target[:] = raw
        done += len(raw)
    return torch.from_numpy(values)


def _chunks(stored: LocalTensor, layout: str, size: int | None = None) -> Iterator[np.ndarray]:
    place, kind = stored.data_range, np.dtype(layout)
    with Path(place.filename).open("rb", buffering=0) as file:
        file.seek(place.offset)
        step = size or CHUNK_BYTES
        for at in range(0, place.size, step):
            yield np.fromfile(file, kind, min(step, place.size - at) // kind.itemsize)
