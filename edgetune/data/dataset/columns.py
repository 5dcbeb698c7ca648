"""A few numbers of every row of a dataset, by which rows are chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgetune.data.dataset.shard import Shard


@dataclass(frozen=True)
class Columns:
    """Numbers of all rows of all sources, each an array [rows].

    Attributes:
        shard: which shard a row lies in.
        local: its number there.
        origin: number of the split whose source it came from.
        part: number of the source among those of its split.
        prompt: hash of the prompt, uint64.
        row: hash of prompt and answer, uint64.
        label: hash of the answer, uint64.
        group: hash of the column that splits rows, uint64.
    """

    shard: np.ndarray
    local: np.ndarray
    origin: np.ndarray
    part: np.ndarray
    prompt: np.ndarray
    row: np.ndarray
    label: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, shards: Sequence[tuple[int, Shard]]) -> Columns:
        """Gather the columns of shards, each with the number of its split."""
        sizes = [len(shard) for _, shard in shards]
        return cls(
            shard=np.repeat(np.arange(len(shards)), sizes),
            local=np.concatenate([np.arange(size) for size in sizes]),
            origin=np.repeat([origin for origin, _ in shards], sizes),
            part=np.repeat([shard.part for _, shard in shards], sizes),
            prompt=np.concatenate([shard.prompt_hash for _, shard in shards]),
            row=np.concatenate([shard.row_hash for _, shard in shards]),
            label=np.concatenate([shard.label for _, shard in shards]),
            group=np.concatenate([shard.group for _, shard in shards]),
        )

    def by_shard(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each run of rows that lie in one shard: the shard, and their numbers there."""
        places = self.shard[rows]
        for some in np.split(rows, np.flatnonzero(np.diff(places)) + 1):
            if len(some):
                yield int(self.shard[some[0]]), self.local[some]
