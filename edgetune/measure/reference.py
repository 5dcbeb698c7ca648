"""What a reference says at every position, kept on disk for the models that are compared with it.

Log probabilities are kept as they are while they are few. Those of 150,000 tokens take 600 kB a
position; of a model in torch whose head has a known formula the last hidden states are kept then,
and the head once, so that the disk does not grow with positions times vocabulary.

P positions, V vocabulary, D the width of hidden states.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from edgetune.disk import rename_whole
from edgetune.runtimes import Runtime

#: Log probabilities of more bytes are made anew, of hidden states, where that can be done.
DENSE_BYTES = 1 << 30
_AHEAD = 128  # positions whose logits are made together, in a pass over the head
_HEAD_ROWS = 8192


class ReferenceLogProbs:
    """Log probabilities of a reference on disk.

    They are written once, as the reference itself is measured, and read some rows at a time by
    every model that is compared with it: mapped, they would count as its memory.

    Attributes:
        path: a ``.npy`` of float32: log probabilities [P, V], or hidden states [P, D] with the
            head beside it.
        shape: positions and vocabulary.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = _Rows(path)
        self.shape = self._rows.shape
        self._head: _Rows | None = None
        head = head_path(path)
        if head.is_file():
            self._head = _Rows(head)
            self._settings = json.loads(head.with_suffix(".json").read_text(encoding="utf-8"))
            self.shape = self.shape[0], self._head.shape[0]
        self._first, self._made = 0, np.empty((0, 0), np.float32)

    def read(self, first: int, last: int) -> np.ndarray:
        """Return float64 log probabilities ``[last - first, V]``, normalised again.

        Rounding to float32 left them off by 1e-7; normalised, KL cannot come out negative.
        """
        if self._head is None:
            return log_softmax(self._rows.read(first, last))
        if first < self._first or last > self._first + len(self._made):
            end = min(max(last, first + _AHEAD), self.shape[0])
            self._first, self._made = first, self._make_logits(self._head, first, end)
        return log_softmax(self._made[first - self._first : last - self._first])

    def _make_logits(self, head: _Rows, first: int, last: int) -> np.ndarray:
        hidden_PD = self._rows.read(first, last)
        logits_PV = np.empty((last - first, self.shape[1]), np.float32)
        for at in range(0, self.shape[1], _HEAD_ROWS):
            end = min(at + _HEAD_ROWS, self.shape[1])
            logits_PV[:, at:end] = hidden_PD @ head.read(at, end).T
        bias, scale, cap = (self._settings[key] for key in ("bias", "scale", "cap"))
        if bias is not None:
            logits_PV += np.array(bias, np.float32)
        logits_PV *= np.float32(scale)
        return cap * np.tanh(logits_PV / cap) if cap else logits_PV


class Keeper:
    """Writes what :class:`ReferenceLogProbs` reads; the file is there whole or not at all.

    Args:
        path: of the file.
        runtime: the reference.
        positions: how many there will be.
    """

    def __init__(self, path: Path, runtime: Runtime, positions: int) -> None:
        self._path, self._runtime, self._positions = path, runtime, positions
        self._file: IO[bytes] | None = None
        self._hidden = False

    def __enter__(self) -> Keeper:
        head_path(self._path).unlink(missing_ok=True)
        self._file = _partial(self._path).open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        assert self._file is not None
        self._file.close()
        if kind is None:
            rename_whole(_partial(self._path), self._path)

    def begin(self, vocabulary: int) -> None:
        """Choose what is kept, and write the header."""
        assert self._file is not None
        width = vocabulary
        if 4 * self._positions * vocabulary > DENSE_BYTES:
            head = getattr(self._runtime, "head", lambda: None)()
            self._hidden = head is not None
            if head is not None:
                _write_head(head_path(self._path), head)
                width = head.weight_VD.shape[1]
        _write_npy_header(self._file, (self._positions, width))

    def add(self, log_probs_PV: np.ndarray) -> None:
        """Keep log probabilities of the next positions, if these are what is kept."""
        if not self._hidden:
            assert self._file is not None
            self._file.write(log_probs_PV.astype(np.float32).tobytes())

    def add_row(self, ids: Sequence[int], positions: Sequence[int]) -> None:
        """Keep the hidden states at positions of a row, if these are what is kept."""
        if self._hidden:
            assert self._file is not None
            hidden_PD = self._runtime.hidden_at(ids, positions)  # type: ignore[attr-defined]
            self._file.write(hidden_PD.tobytes())


def kept_bytes(positions: int, vocabulary: int, width: int) -> int:
    """Return the disk that a reference in torch takes, of a head whose formula is known."""
    dense = 4 * positions * vocabulary
    return dense if dense <= DENSE_BYTES else 4 * (positions + vocabulary) * width


def head_path(path: Path) -> Path:
    """Return where the head lies whose logits are made of the hidden states in a file."""
    return path.with_suffix(".head.npy")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return float64 log probabilities over the last axis."""
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return scores


class _Rows:
    """Rows of a float32 matrix on disk, read rather than mapped."""

    def __init__(self, path: Path) -> None:
        rows = np.load(path, mmap_mode="r")
        self.shape: tuple[int, int] = rows.shape
        self._path, self._begin = path, rows.offset

    def read(self, first: int, last: int) -> np.ndarray:
        width = self.shape[1]
        at = self._begin + 4 * first * width
        rows = np.fromfile(self._path, np.float32, (last - first) * width, offset=at)
        return rows.reshape(-1, width)


def _write_head(path: Path, head: Any) -> None:
    """Write the weight, some rows at a time, and beside it what else makes logits."""
    rows, width = head.weight_VD.shape
    with _partial(path).open("wb") as file:
        _write_npy_header(file, (rows, width))
        for first in range(0, rows, _HEAD_ROWS):
            some = head.weight_VD[first : first + _HEAD_ROWS].detach().float().cpu().numpy()
            file.write(some.tobytes())
    bias = None if head.bias_V is None else head.bias_V.detach().float().cpu().tolist()
    settings = {"bias": bias, "scale": head.scale, "cap": head.cap}
    path.with_suffix(".json").write_text(json.dumps(settings), encoding="utf-8")
    rename_whole(_partial(path), path)


def _write_npy_header(file: IO[bytes], shape: tuple[int, int]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".part")
