"""Pairs of similar rows, and the clusters that they connect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pairs:
    """Similar rows: ``left`` < ``right`` (int64), and their Jaccard similarity (float32)."""

    left: np.ndarray
    right: np.ndarray
    jaccard: np.ndarray

    def __len__(self) -> int:
        return len(self.left)


def cluster_rows(pairs: Pairs, count: int) -> np.ndarray:
    """Return the cluster of each of ``count`` rows: the number of its smallest row.

    Rows are in one cluster if pairs connect them, so that its ends may be less similar.
    """
    return connect_rows(np.arange(count, dtype=np.int64), pairs.left, pairs.right)


def connect_rows(cluster: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the clusters after pairs of rows have been connected."""
    cluster = cluster.copy()
    while len(left):
        # Each cluster takes the smallest number among its neighbours', then that one's number.
        one, other = cluster[left], cluster[right]
        low = np.minimum(one, other)
        np.minimum.at(cluster, one, low)
        np.minimum.at(cluster, other, low)
        while True:
            jumped = cluster[cluster]
            if np.array_equal(jumped, cluster):
                break
            cluster = jumped
        apart = cluster[left] != cluster[right]
        left, right = left[apart], right[apart]
    return cluster
