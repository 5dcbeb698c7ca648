"""Caps on groups and clusters of rows."""

from __future__ import annotations

import numpy as np

from edgetune.data.clean import Pairs, cap_groups, cluster_rows


def test_no_group_keeps_more_than_its_cap_and_rows_of_none_stay() -> None:
    groups = np.array([0, 7, 0, 0, -1, 7, -1, -1])
    keep = cap_groups(groups, 2, seed=3)
    assert keep[groups == -1].all()
    assert [int(keep[groups == group].sum()) for group in (0, 7)] == [2, 2]


def test_the_seed_chooses_the_rows() -> None:
    groups = np.zeros(1000, dtype=np.int64)
    first, again, other = (cap_groups(groups, 500, seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_rows_that_pairs_connect_are_one_cluster() -> None:
    chain = np.arange(999)
    order = np.random.default_rng(0).permutation(999)
    pairs = Pairs(chain[order], chain[order] + 1, np.ones(999, np.float32))
    assert cluster_rows(pairs, 1001).tolist() == [0] * 1000 + [1000]
    none = np.empty(0, np.int64)
    assert cluster_rows(Pairs(none, none, none.astype(np.float32)), 3).tolist() == [0, 1, 2]
