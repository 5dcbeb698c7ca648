"""Balance: no group of rows, be it a label's or a cluster's, keeps more than its cap."""

from __future__ import annotations

import numpy as np


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
