"""Bytes of tensors on disk, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgetune.disk import sync_file


class Stored(Mapping[str, np.ndarray]):
    """The bytes of tensors in files, read when they are asked for.

    Args:
        paths: tensor name to its file.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)

    def __getitem__(self, tensor: str) -> np.ndarray:
        raw: np.ndarray = np.load(self._paths[tensor])
        return raw

    def read_rows(self, tensor: str, rows: np.ndarray) -> np.ndarray:
        """Return the bytes of some rows, the others unread."""
        found: np.ndarray = np.load(self._paths[tensor], mmap_mode="r")[rows]
        return found

    def of(self, tensors: Sequence[str]) -> Stored:
        """Return those of some tensors."""
        return Stored({tensor: self._paths[tensor] for tensor in tensors})

    def __or__(self, other: Stored) -> Stored:
        """Return these, and those of ``other`` in their place."""
        return Stored(self._paths | other._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def save_bytes(path: Path, raw: np.ndarray) -> None:
    """Write a tensor's bytes to a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, raw)
    sync_file(part)
    part.rename(path)
