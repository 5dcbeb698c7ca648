"""Read the next tensor of a file while the last one is quantized."""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from edgetune.runtimes.gguf_header import GgufFile

#: Two tensors of at most so many values may be in memory together: half a gigabyte in float32, what
#: one embedding takes anyway. Larger ones are read when their turn comes.
MOST_VALUES = 1 << 26


class ReadAhead:
    """Tensors in the order of ``names``, each read by a thread of its own ahead of its turn.

    Nothing that was handed out is kept, so a tensor is in memory as long as its user holds it.
    """

    def __init__(self, source: GgufFile, names: Iterable[str]) -> None:
        self._source = source
        self._names = iter(list(names))
        self._next = next(self._names, None)
        self._coming: Future[np.ndarray] | None = None
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def read(self, name: str) -> np.ndarray:
        """Return the float32 values of the tensor whose turn it is, and begin with the next.

        Raises:
            ValueError: it is another tensor's turn.
            EdgetuneError: the tensor cannot be read.
        """
        if name != self._next:
            raise ValueError(f"the next tensor is {self._next}, not {name}")
        coming, self._coming = self._coming, None
        values = self._source.read(name) if coming is None else coming.result()
        self._next = next(self._names, None)
        if self._next is not None and self._is_small(name) and self._is_small(self._next):
            self._coming = self._thread.submit(self._source.read, self._next)
        return values

    def _is_small(self, name: str) -> bool:
        return math.prod(self._source.tensors[name].shape) <= MOST_VALUES
