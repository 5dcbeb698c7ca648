"""Logits of what may follow one context in llama.cpp, the context decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgetune.runtimes import count_together
from edgetune.runtimes.branches import TOGETHER, group_branches
from edgetune.runtimes.llama_batch import BATCH_TOKENS, spans
from edgetune.runtimes.llama_memory import Memory
from edgetune.runtimes.llama_sequences import Decode


def count_room(context: Sequence[int], branches: Sequence[Sequence[int]]) -> int:
    """Return how many tokens a cache needs for a context and the branches of one call."""
    longest = max(map(len, branches), default=0)
    return len(context) + max(longest, min(BATCH_TOKENS, sum(map(len, branches))))


def logits_after(
    decode: Decode, memory: Memory, vocabulary: int, context: Sequence[int],
    branches: Sequence[Sequence[int]],
) -> Iterator[np.ndarray]:  # fmt: skip
    """Yield float32 ``[P, V]``; see :func:`edgetune.runtimes.likelihood.logits_after`.

    Short branches are decoded by one call, each in a sequence of its own that shares the context's
    cache.

    Args:
        decode: runs tokens of sequences, which are empty.
        memory: of these sequences.
        vocabulary: V.
        context: ids.
        branches: ids of each branch.
    """
    yield _decode_context(decode, context)
    step = min(BATCH_TOKENS, count_together(vocabulary))
    begin, keeps = len(context), True
    for group in group_branches(branches, step, TOGETHER if memory.shares else 1):
        if not keeps:
            _decode_context(decode, context)
        if len(group) > 1:
            yield from _decode_together(decode, memory, begin, group)
            continue
        tokens = np.asarray(group[0], np.int32)
        for first in range(0, len(tokens), step):
            block = tokens[first : first + step]
            places = np.arange(begin + first, begin + first + len(block))
            yield decode(block, places, 0, 1).copy()
        keeps = memory.forget(begin)


def _decode_together(
    decode: Decode, memory: Memory, begin: int, group: Sequence[Sequence[int]]
) -> Iterator[np.ndarray]:
    """Yield the logits of each branch, ``[P, V]``."""
    lengths = [len(branch) for branch in group]
    tokens = np.concatenate([np.asarray(branch, np.int32) for branch in group])
    places = np.concatenate([np.arange(begin, begin + length) for length in lengths])
    owners = np.repeat(np.arange(1, len(group) + 1), lengths)
    memory.share(len(group))
    scores = decode(tokens, places, owners, 1).copy()
    memory.drop(len(group))
    yield from np.split(scores, np.cumsum(lengths)[:-1])


def _decode_context(decode: Decode, context: Sequence[int]) -> np.ndarray:
    """Return the logits after the last token, ``[1, V]``."""
    tokens = np.asarray(context, np.int32)
    wanted = np.zeros(len(tokens), np.int8)
    wanted[-1] = 1
    for first, last in spans(len(tokens)):
        scores = decode(tokens[first:last], np.arange(first, last), 0, wanted[first:last])
    return scores.copy()
