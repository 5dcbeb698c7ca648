"""Pairs of near duplicates: candidates by equal bands, accepted by exact Jaccard similarity."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from edgetune.data.clean.candidates import propose_pairs
from edgetune.data.clean.clusters import Pairs, connect_rows
from edgetune.data.clean.shingles import hash_set, hash_shingles

ReadTexts = Callable[[np.ndarray], list[str]]
#: Pairs whose texts are in memory at a time.
PAIRS_AT_A_TIME = 1024
#: Comparisons in larger groups that may find a row different before it is left out of them.
MOST_FAILURES = 8


def find_pairs(
    bands: np.ndarray,
    read_texts: ReadTexts,
    threshold: float = 0.8,
    queries: np.ndarray | None = None,
) -> Pairs:
    """Find the pairs of rows whose sets of shingles are similar.

    Where more than 16 rows share a band, similar rows are connected, but not every pair is listed:
    the time stays linear in the rows. With queries, every row that is similar to one of the other
    kind is in a pair.

    Args:
        bands: band hashes of all rows, uint64 [rows, bands]; may be a memory map.
        read_texts: returns the texts of rows by their numbers (sorted, each once).
        threshold: least Jaccard similarity.
        queries: with it, only pairs of a row that is marked and one that is not, bool [rows].

    Returns:
        The pairs in the order of their rows.
    """
    count, width = bands.shape
    cluster = np.arange(count, dtype=np.int64)
    failures = np.zeros(count, dtype=np.int64)
    seen = np.empty(0, dtype=np.int64)
    kept, jaccards = [seen], [np.empty(0, np.float32)]
    column = np.array(bands[:, 0]) if width else seen
    for band in range(width):
        following = np.array(bands[:, (band + 1) % width])
        few, many = propose_pairs(column, following, failures < MOST_FAILURES, queries)
        column = following
        if queries is None:  # a pair that others connect says nothing new
            apart = cluster[many[0]] != cluster[many[1]]
            many = many[0][apart], many[1][apart]
        keys = _new(np.concatenate([_key(*few, count), _key(*many, count)]), seen)
        jaccard = _similarities(keys // count, keys % count, read_texts, threshold)
        similar = jaccard >= threshold
        kept.append(keys[similar])
        jaccards.append(jaccard[similar].astype(np.float32))
        cluster = connect_rows(cluster, keys[similar] // count, keys[similar] % count)
        failed = np.intersect1d(keys[~similar], _key(*many, count))
        failures += np.bincount(failed // count, minlength=count)
        failures += np.bincount(failed % count, minlength=count)
        seen = np.union1d(seen, keys)
    keys, jaccard = np.concatenate(kept), np.concatenate(jaccards)
    order = np.argsort(keys)
    return Pairs(keys[order] // count, keys[order] % count, jaccard[order])


def _key(left: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    """Return one number for each pair."""
    keys: np.ndarray = np.minimum(left, right) * count + np.maximum(left, right)
    return keys


def _new(keys: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the different keys that are not among those seen, which are sorted."""
    keys = np.unique(keys)
    if not len(seen):
        return keys
    places = np.minimum(np.searchsorted(seen, keys), len(seen) - 1)
    fresh: np.ndarray = keys[seen[places] != keys]
    return fresh


def _similarities(
    left: np.ndarray, right: np.ndarray, read_texts: ReadTexts, threshold: float
) -> np.ndarray:
    """Return the exact Jaccard similarity of pairs of rows; 0 where lengths exclude the least."""
    jaccard = np.zeros(len(left))
    for first in range(0, len(left), PAIRS_AT_A_TIME):
        part = slice(first, first + PAIRS_AT_A_TIME)
        rows = np.unique(np.concatenate((left[part], right[part])))
        sets = []
        for _, hashes, offsets in hash_shingles(read_texts(rows)):
            sets += [hash_set(hashes[begin:end]) for begin, end in pairwise(offsets.tolist())]
        ones, others = np.searchsorted(rows, left[part]), np.searchsorted(rows, right[part])
        for pair, (one, other) in enumerate(zip(ones.tolist(), others.tolist(), strict=True)):
            jaccard[first + pair] = compare_sets(sets[one], sets[other], threshold)
    return jaccard


def compare_sets(one: np.ndarray, other: np.ndarray, threshold: float) -> float:
    """Return the Jaccard similarity of two sorted sets; 0 where their sizes exclude the least."""
    short, long = sorted((len(one), len(other)))
    if short < threshold * long:
        return 0.0
    both = np.concatenate((one, other))
    both.sort()
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)
