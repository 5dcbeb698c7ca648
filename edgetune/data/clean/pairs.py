"""Pairs of near duplicates: candidates by equal bands, verdict by exact Jaccard similarity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgetune.data.clean.shingles import hash_set, hash_shingles

ReadTexts = Callable[[np.ndarray], list[str]]
#: Rows of equal band up to which every one is compared with every other.
SMALL_GROUP = 16
#: Pairs whose texts are in memory at a time.
PAIRS_AT_A_TIME = 1024


@dataclass(frozen=True, slots=True)
class Pairs:
    """Similar rows: ``left`` < ``right`` (int64), and their Jaccard similarity (float32)."""

    left: np.ndarray
    right: np.ndarray
    jaccard: np.ndarray

    def __len__(self) -> int:
        return len(self.left)


def find_pairs(
    bands: np.ndarray,
    read_texts: ReadTexts,
    threshold: float = 0.8,
    queries: np.ndarray | None = None,
) -> Pairs:
    """Find the pairs of rows whose sets of shingles are similar.

    In a group of more than 16 rows that share a band's hash, each row is compared with its
    neighbours of other bands and with the group's first rows, so that the time stays linear:
    similar rows are then connected, though not every pair is listed.

    Args:
        bands: band hashes of all rows, uint64 [rows, bands]; may be a memory map.
        read_texts: returns the texts of rows by their numbers (sorted, each once).
        threshold: least Jaccard similarity.
        queries: with it, only pairs of a row that is marked and one that is not.
    """
    count = len(bands)
    seen = np.empty(0, dtype=np.int64)
    for band in range(bands.shape[1]):
        column = np.array(bands[:, band])
        left, right = _propose(column, queries)
        keys = np.unique(left * count + right)
        keys = keys[~np.isin(keys, seen, assume_unique=True)]
        seen = np.union1d(seen, keys)
    found = list(_verify(seen, count, read_texts, threshold))
    keys = np.concatenate([part[0] for part in found] or [np.empty(0, np.int64)])
    jaccard = np.concatenate([part[1] for part in found] or [np.empty(0, np.float32)])
    return Pairs(keys // count, keys % count, jaccard)


def _propose(column: np.ndarray, queries: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    lefts, rights = [], []
    for distance in range(1, SMALL_GROUP):
        same = ordered[distance:] == ordered[:-distance]
        if not same.any():
            break
        lefts.append(order[:-distance][same])
        rights.append(order[distance:][same])
    left = np.concatenate(lefts or [np.empty(0, np.int64)])
    right = np.concatenate(rights or [np.empty(0, np.int64)])
    if queries is not None:
        mixed = queries[left] != queries[right]
        left, right = left[mixed], right[mixed]
    return left, right


def _verify(
    keys: np.ndarray, count: int, read_texts: ReadTexts, threshold: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for first in range(0, len(keys), PAIRS_AT_A_TIME):
        part = keys[first : first + PAIRS_AT_A_TIME]
        jaccard = _similarities(part // count, part % count, read_texts)
        similar = jaccard >= threshold
        yield part[similar], jaccard[similar].astype(np.float32)


def _similarities(left: np.ndarray, right: np.ndarray, read_texts: ReadTexts) -> np.ndarray:
    """Return the exact Jaccard similarity of the shingles of pairs of rows."""
    rows = np.unique(np.concatenate((left, right)))
    sets = []
    for _, hashes, offsets in hash_shingles(read_texts(rows)):
        sets += [hash_set(hashes[a:b]) for a, b in pairwise(offsets)]
    jaccard = np.empty(len(left))
    places = zip(np.searchsorted(rows, left), np.searchsorted(rows, right), strict=True)
    for pair, (one, other) in enumerate(places):
        both = np.concatenate((sets[one], sets[other]))
        both.sort()
        shared = int(np.count_nonzero(both[1:] == both[:-1]))
        jaccard[pair] = shared / (len(both) - shared)
    return jaccard
