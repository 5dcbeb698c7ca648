"""Branches of one context that are computed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

#: Tokens of context and branches that copies of a context's cache may have, all together.
COPIED_TOKENS = 8_192
TOGETHER = 32  # branches of one pass


def group_branches(
    branches: Sequence[Sequence[int]], tokens: int, together: int
) -> Iterator[Sequence[Sequence[int]]]:
    """Yield branches in their order, those of one pass together.

    Args:
        branches: ids of each.
        tokens: that a pass may have, each branch counted as long as the longest; a branch beyond
            that is alone.
        together: branches of a pass, at most.
    """
    group: list[Sequence[int]] = []
    for branch in branches:
        longest = max(map(len, [*group, branch]))
        if group and (len(group) == together or longest * (len(group) + 1) > tokens):
            yield group
            group = []
        group.append(branch)
    if group:
        yield group


def count_copies(context: int, branches: Sequence[Sequence[int]]) -> int:
    """Return how many copies of a context's cache, with a branch after each, have room."""
    length = context + max(map(len, branches), default=0)
    return max(1, min(TOGETHER, COPIED_TOKENS // length))
