"""The order of rows: shuffled, with rows of similar length in a batch, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

WINDOW = 50  # batches that are sorted by length together; more pads less and shuffles less


class LengthBatches(Sampler[int]):
    """Yields row indices; the order depends on seed and epoch alone, so a resumed run repeats it.

    Rows are shuffled, sorted by length within windows of 50 batches, cut into batches, and the
    batches shuffled; only the last one may be short.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        size = self._batch_size
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        shuffled = torch.randperm(len(self._lengths), generator=generator).tolist()
        whole = len(shuffled) - len(shuffled) % size
        batches: list[list[int]] = []
        for start in range(0, whole, WINDOW * size):
            window = shuffled[start : min(start + WINDOW * size, whole)]
            window.sort(key=lambda row: self._lengths[row])
            batches += [window[at : at + size] for at in range(0, len(window), size)]
        order = torch.randperm(len(batches), generator=generator).tolist()
        for number in order:
            yield from batches[number]
        yield from shuffled[whole:]
