"""Groups of rows: clusters of near duplicates, and caps on how many rows a group keeps."""

from __future__ import annotations

import numpy as np

from edgetune.data.clean.pairs import Pairs


def cluster_rows(pairs: Pairs, count: int) -> np.ndarray:
    """Return the cluster of each of ``count`` rows: the number of its smallest row.

    Rows are in one cluster if pairs connect them, so that its ends may be less similar.
    """
    cluster = np.arange(count, dtype=np.int64)
    left, right = pairs.left, pairs.right
    while len(left):
        # Each row takes the smallest number among its neighbours', then their numbers' numbers.
        low = np.minimum(cluster[left], cluster[right])
        np.minimum.at(cluster, cluster[left], low)
        np.minimum.at(cluster, cluster[right], low)
        while True:
            jumped = cluster[cluster]
            if np.array_equal(jumped, cluster):
                break
            cluster = jumped
        apart = cluster[left] != cluster[right]
        left, right = left[apart], right[apart]
    return cluster


def cap_groups(groups: np.ndarray, cap: int, seed: int) -> np.ndarray:
    """Return which rows to keep so that no group has more than ``cap``, chosen by the seed.

    Args:
        groups: a group's number for each row; rows of a negative one are in none, and stay.
    """
    ranks = np.random.default_rng(seed).permutation(len(groups))
    order = np.lexsort((ranks, groups))
    ordered = groups[order]
    firsts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    sizes = np.diff(np.append(firsts, len(ordered)))
    places = np.arange(len(ordered)) - np.repeat(firsts, sizes)
    keep = np.empty(len(groups), dtype=bool)
    keep[order] = (places < cap) | (ordered < 0)
    return keep
