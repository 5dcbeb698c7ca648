"""Equal and similar rows among all shards: duplicates within train, leaks between splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgetune.data.clean import BANDS, Pairs, cluster_rows, find_pairs
from edgetune.data.dataset.columns import Columns
from edgetune.data.dataset.shard import Shard
from edgetune.data.dataset.tables import RowTable
from edgetune.data.dataset.texts import prompt_text, row_text
from edgetune.data.rows import Row


def read_rows(numbers: np.ndarray, columns: Columns, shards: Sequence[Shard]) -> Iterator[Row]:
    """Yield rows by their numbers, in their order; rows of one shard together are read fastest."""
    for at, local in columns.by_shard(numbers):
        yield from RowTable(shards[at].rows).select(local)


def first_equal(hashes: np.ndarray) -> np.ndarray:
    """Return for each row the number of the first with its hash, int64 [rows]."""
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    return np.asarray(first[group], np.int64)


class SimilarRows:
    """Finds rows of similar text by the sketches that lie in shards.

    Args:
        columns: of all rows.
        shards: in the order of ``columns.shard``.
        scratch: folder where the sketches of all rows are put together.
        threshold: least Jaccard similarity.
    """

    def __init__(
        self, columns: Columns, shards: Sequence[Shard], scratch: Path, threshold: float
    ) -> None:
        self._columns, self._shards = columns, shards
        self._scratch, self._threshold = scratch, threshold

    def cluster(self, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the clusters of similar rows among ``rows``, and how many pairs there are.

        A cluster's name is the number of its first row.
        """
        pairs = self._find(rows, "bands", None)
        return rows[cluster_rows(pairs, len(rows))], len(pairs)

    def find_leaks(self, train: np.ndarray, held_out: np.ndarray) -> Pairs:
        """Return pairs of a held-out row (left) and a train row (right) of similar prompts."""
        rows = np.concatenate([held_out, train])
        queries = np.arange(len(rows)) < len(held_out)
        pairs = self._find(rows, "prompt_bands", queries)
        return Pairs(rows[pairs.left], rows[pairs.right], pairs.jaccard)

    def _find(self, rows: np.ndarray, sketch: str, queries: np.ndarray | None) -> Pairs:
        path = self._scratch / f"{sketch}.npy"
        bands = np.lib.format.open_memmap(path, "w+", np.uint64, (len(rows), BANDS))
        done = 0
        for at, local in self._columns.by_shard(rows):
            bands[done : done + len(local)] = self._shards[at].sketch(sketch)[local]
            done += len(local)
        whole = sketch == "bands"
        try:
            return find_pairs(
                bands, lambda numbers: self._texts(rows[numbers], whole), self._threshold, queries
            )
        finally:
            path.unlink()

    def _texts(self, rows: np.ndarray, whole: bool) -> list[str]:
        """Return the texts that were sketched: all that is said, or the prompt alone."""
        order = np.argsort(rows, kind="stable")
        texts = [""] * len(rows)
        every = read_rows(rows[order], self._columns, self._shards)
        for place, row in zip(order.tolist(), every, strict=True):
            texts[place] = row_text(row) if whole else prompt_text(row)
        return texts
