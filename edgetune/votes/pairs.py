"""Which answers are compared on a page: models, order and sides by the seed, balanced."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

#: Comparisons of one pair of models in which each is as often first as second: enough of them that
#: nobody can foresee the side.
BLOCK = 8


@dataclass(frozen=True)
class Item:
    """A comparison on the page.

    Attributes:
        row: number of the row.
        first: number of the model whose answer is shown first.
        second: that of the other.
    """

    row: int
    first: int
    second: int


@dataclass(frozen=True)
class Pair:
    """Two models: on how many rows their answers are the same, so that there is nothing to vote on.

    Attributes:
        models: their numbers.
        equal: rows with equal answers.
        rows: all rows.
    """

    models: tuple[int, int]
    equal: int
    rows: int


def choose_items(
    answers: Sequence[Sequence[str]], most: int, seed: int
) -> tuple[list[Item], list[Pair]]:
    """Return the comparisons in the order in which they are shown, and what was left out.

    Whoever stops early has voted on about as many comparisons of every pair, with every model as
    often first as second.

    Args:
        answers: of each model, one text per row.
        most: comparisons on the page.
        seed: decides rows, order and sides.
    """
    draw = random.Random(seed)
    queues: list[Iterator[Item]] = []
    pairs = []
    for one, other in combinations(range(len(answers)), 2):
        texts = list(zip(answers[one], answers[other], strict=True))
        differing = [row for row, (a, b) in enumerate(texts) if a.strip() != b.strip()]
        pairs.append(Pair((one, other), len(texts) - len(differing), len(texts)))
        draw.shuffle(differing)
        queues.append(iter(_place(differing, one, other, draw)))
    items: list[Item] = []
    while queues and len(items) < most:
        draw.shuffle(queues)
        for queue in list(queues):
            item = next(queue, None)
            if item is None:
                queues.remove(queue)
            elif len(items) < most:
                items.append(item)
    return items, pairs


def _place(rows: Sequence[int], one: int, other: int, draw: random.Random) -> Iterator[Item]:
    """Yield the comparisons of a pair, each model first in half of every block."""
    sides: list[bool] = []
    for row in rows:
        if not sides:
            sides = [True, False] * (BLOCK // 2)
            draw.shuffle(sides)
        yield Item(row, one, other) if sides.pop() else Item(row, other, one)
