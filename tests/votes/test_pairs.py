"""What a page compares: every pair alike, each model as often first, by the seed alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from edgetune.votes.pairs import choose_items


def test_pairs_and_sides_are_balanced_wherever_a_voter_stops() -> None:
    answers = [[f"{model} {row}" for row in range(60)] for model in range(3)]
    items, pairs = choose_items(answers, 150, seed=1)
    assert len(items) == 150 and [pair.models for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    assert len({(i.row, *sorted((i.first, i.second))) for i in items}) == 150
    for stop in (24, 60, 150):
        seen = Counter(tuple(sorted((i.first, i.second))) for i in items[:stop])
        assert max(seen.values()) - min(seen.values()) <= 1
        for pair in seen:
            first = sum((i.first, i.second) == pair for i in items[:stop])
            assert abs(2 * first - seen[pair]) <= 8
    rows = [item.row for item in items]
    assert rows != sorted(rows)


def test_sides_cannot_be_foreseen() -> None:
    answers = [["a"] * 400, ["b"] * 400]
    items, _ = choose_items(answers, 400, seed=0)
    sides = [item.first for item in items]
    repeats = sum(a == b for a, b in pairwise(sides))
    assert 130 < repeats < 230


def test_the_seed_decides_all() -> None:
    answers = [[f"{model} {row}" for row in range(20)] for model in range(2)]
    assert choose_items(answers, 20, 7) == choose_items(answers, 20, 7)
    assert choose_items(answers, 20, 7) != choose_items(answers, 20, 8)


def test_equal_answers_are_not_compared_and_are_counted() -> None:
    items, pairs = choose_items([["a", "b", "c "], ["a", "x", "c"]], 10, 0)
    assert [item.row for item in items] == [1]
    assert (pairs[0].equal, pairs[0].rows) == (2, 3)
    assert choose_items([["a"], ["a"]], 10, 0)[0] == []
