"""Candidates for near duplicates: rows that share the hash of a band."""

from __future__ import annotations

import numpy as np

#: Rows of equal band up to which each is paired with every other.
SMALL_GROUP = 16
#: Rows that each is paired with in a larger group.
NEIGHBOURS = 2

#: Left and right rows of pairs.
Two = tuple[np.ndarray, np.ndarray]


def propose_pairs(
    column: np.ndarray, following: np.ndarray, loose: np.ndarray, queries: np.ndarray | None
) -> tuple[Two, Two]:
    """Pair rows that share a band's hash, in time linear in the rows.

    Long passages that many rows have in common make groups of any size. In one of more than 16
    rows each is paired with its neighbours in the order of the next band's hash only; with
    queries, with the nearest of the other kind, or with all of them if they are no more than 16.

    Args:
        column: the band's hashes, uint64 [rows].
        following: those of the next band.
        loose: whether a row takes part in larger groups, bool [rows].
        queries: with it, only pairs of a row that is marked and one that is not.

    Returns:
        The pairs of small groups, and those of larger ones.
    """
    order = np.argsort(column, kind="stable")
    groups = _number(column[order])
    sizes = np.bincount(groups)[groups]
    small, large = (sizes > 1) & (sizes <= SMALL_GROUP), sizes > SMALL_GROUP
    few = _pair_neighbours(order[small], groups[small], SMALL_GROUP - 1)
    if queries is not None:
        few = _keep_mixed(few, queries)
    large &= loose[order]
    rows, groups = order[large], groups[large]
    turned = np.lexsort((rows, following[rows], groups))
    rows, groups = rows[turned], groups[turned]
    if queries is None:
        return few, _pair_neighbours(rows, groups, NEIGHBOURS)
    return few, _pair_mixed(rows, groups, queries[rows])


def _number(ordered: np.ndarray) -> np.ndarray:
    """Number the runs of equal values."""
    begins = np.zeros(len(ordered), dtype=np.int64)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:], casting="unsafe")
    return np.cumsum(begins)


def _pair_neighbours(rows: np.ndarray, groups: np.ndarray, reach: int) -> Two:
    """Pair each row with so many that follow it in its group."""
    lefts, rights = [rows[:0]], [rows[:0]]
    for distance in range(1, reach + 1):
        same = groups[distance:] == groups[:-distance]
        if not same.any():
            break
        lefts.append(rows[:-distance][same])
        rights.append(rows[distance:][same])
    return np.concatenate(lefts), np.concatenate(rights)


def _keep_mixed(pairs: Two, queries: np.ndarray) -> Two:
    mixed = queries[pairs[0]] != queries[pairs[1]]
    return pairs[0][mixed], pairs[1][mixed]


def _pair_mixed(rows: np.ndarray, groups: np.ndarray, queries: np.ndarray) -> Two:
    """Pair queries with others: all where one kind is few in a group, else the nearest."""
    if not len(rows):
        return rows, rows
    groups = _number(groups)
    count = int(groups[-1]) + 1
    asked = np.bincount(groups, weights=queries, minlength=count).astype(np.int64)
    others = np.bincount(groups, minlength=count) - asked
    # Of the rarer kind of each group: its rows one after another, and where a group's begin.
    rarer = queries == (asked <= others)[groups]
    rare = np.minimum(asked, others)
    begins = np.cumsum(rare) - rare
    listed = rows[rarer]
    lefts, rights = [], []
    for number in range(SMALL_GROUP):
        has = ~rarer & ((rare > number) & (rare <= SMALL_GROUP))[groups]
        lefts.append(rows[has])
        rights.append(listed[begins[groups[has]] + number])
    wide = (rare > SMALL_GROUP)[groups]
    for near in _find_nearest(groups, queries):
        has = wide & ~queries & (near >= 0)
        lefts.append(rows[has])
        rights.append(rows[near[has]])
    return np.concatenate(lefts), np.concatenate(rights)


def _find_nearest(groups: np.ndarray, queries: np.ndarray) -> Two:
    """Return the places of the query before and after each row in its group; -1: none."""
    places = np.arange(len(groups))
    before = np.maximum.accumulate(np.where(queries, places, -1))
    last = len(groups)
    after = np.minimum.accumulate(np.where(queries, places, last)[::-1])[::-1]
    after = np.where(after == last, -1, after)
    return (
        np.where(groups[before] == groups, before, -1),
        np.where(groups[after] == groups, after, -1),
    )
