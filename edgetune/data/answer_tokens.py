"""Tokens that answers are made of, and in how many rows each is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import compress

from edgetune.data.encoded import Encoded

OFTEN = 0.01  # of the rows: what a model that cannot write it would be seen to lack


def count_answer_tokens(rows: Iterable[Encoded]) -> Counter[int]:
    """Return for each token id the number of rows that train it."""
    counts: Counter[int] = Counter()
    for row in rows:
        counts.update(set(compress(row.ids, row.trained)))
    return counts


def often_in_answers(rows: Iterable[Encoded], fraction: float = OFTEN) -> dict[int, int]:
    """Return the counts of tokens that at least ``fraction`` of the rows train, most first."""
    some = list(rows)
    counts = count_answer_tokens(some).most_common()
    return {token: count for token, count in counts if count >= fraction * len(some)}
