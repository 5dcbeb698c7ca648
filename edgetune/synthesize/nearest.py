"""Which texts are nearest to some others: cosine of hashed character trigrams, in blocks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

BUCKETS = 4096
BLOCK = 2048  # texts compared at a time: 32 MB of counts


def choose_nearest(texts: Sequence[str], wanted: Sequence[str], count: int) -> list[int]:
    """Return ``count`` numbers of ``texts``: each of ``wanted`` picks its nearest in turn.

    Ties go to the earlier text. Trigrams are weighted by how rare they are in ``texts``.
    """
    count = min(count, len(texts))
    if not wanted or not count:
        return []
    document_B = np.zeros(BUCKETS)
    for first in range(0, len(texts), BLOCK):
        document_B += (_count(texts[first : first + BLOCK]) > 0).sum(axis=0)
    weight_B = np.log((1 + len(texts)) / (1 + document_B)).astype(np.float32)
    wanted_WB = _unit(_count(wanted) * weight_B)
    near_WN = np.concatenate(
        [
            wanted_WB @ _unit(_count(texts[first : first + BLOCK]) * weight_B).T
            for first in range(0, len(texts), BLOCK)
        ],
        axis=1,
    )
    order_WN = np.argsort(-near_WN, axis=1, kind="stable")
    places = [0] * len(wanted)
    chosen: set[int] = set()
    while len(chosen) < count:
        for row, order_N in enumerate(order_WN):
            while places[row] < len(order_N) and int(order_N[places[row]]) in chosen:
                places[row] += 1
            if places[row] < len(order_N):
                chosen.add(int(order_N[places[row]]))
            if len(chosen) == count:
                break
    return sorted(chosen)


def _count(texts: Sequence[str]) -> np.ndarray:
    counts_NB = np.zeros((len(texts), BUCKETS), np.float32)
    for number, text in enumerate(texts):
        folded = f" {' '.join(text.casefold().split())} "
        for at in range(len(folded) - 2):
            counts_NB[number, zlib.crc32(folded[at : at + 3].encode()) % BUCKETS] += 1
    return np.log1p(counts_NB)


def _unit(values_NB: np.ndarray) -> np.ndarray:
    lengths_N1 = np.linalg.norm(values_NB, axis=1, keepdims=True)
    scaled_NB: np.ndarray = values_NB / np.maximum(lengths_N1, 1e-9)
    return scaled_NB
