"""MinHash sketches of texts: hashes of bands that similar texts share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from edgetune.data.clean.shingles import hash_shingles

#: Two texts of Jaccard similarity s share a band's hash with probability s^8, one of 32 with
#: 1 - (1 - s^8)^32: 0.997 at 0.8, 0.002 at 0.3 (Leskovec et al., Mining of Massive Datasets, 3.4).
BANDS, ROWS_PER_BAND = 32, 8
SLOTS = BANDS * ROWS_PER_BAND
_SEED = 1
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def sketch_texts(texts: Sequence[str]) -> np.ndarray:
    """Return the band hashes of texts, uint64 [texts, 32]; near duplicates share some."""
    try:
        from rensa import RMinHash
    except ImportError:
        RMinHash = None
    bands = np.empty((len(texts), BANDS), dtype=np.uint64)
    for first, hashes, offsets in hash_shingles(texts):
        if RMinHash is None:
            slots = minhash(hashes, offsets)
        else:
            matrix = RMinHash.digest_matrix_from_flat_token_hashes(
                hashes, offsets.astype(np.uint64), SLOTS, _SEED
            )
            flat = chain.from_iterable(matrix.to_rows())
            count = (len(offsets) - 1) * SLOTS
            slots = np.fromiter(flat, dtype=np.uint32, count=count).reshape(-1, SLOTS)
        bands[first : first + len(slots)] = _hash_bands(slots)
    return bands


def minhash(hashes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return MinHash signatures, uint32 [texts, 256]; what rensa's are tested against.

    Source: Broder, On the resemblance and containment of documents, 1997; slots by
    multiply-shift hashes (Dietzfelbinger et al., 1997).
    """
    chance = np.random.default_rng(_SEED)
    factors = chance.integers(0, 1 << 63, size=SLOTS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    slots = np.empty((len(offsets) - 1, SLOTS), dtype=np.uint32)
    for slot, factor in enumerate(factors):
        slots[:, slot] = np.minimum.reduceat(hashes * factor, offsets[:-1]) >> np.uint64(32)
    return slots


def _hash_bands(slots: np.ndarray) -> np.ndarray:
    """Return one hash for each band of eight slots: a band is equal where all eight are."""
    words = np.ascontiguousarray(slots).view(np.uint64).reshape(len(slots), BANDS, -1)
    hashes = np.zeros((len(slots), BANDS), dtype=np.uint64)
    for place in range(words.shape[2]):
        hashes = (hashes ^ words[:, :, place]) * _MULTIPLIER
        hashes ^= hashes >> np.uint64(31)
    return hashes
