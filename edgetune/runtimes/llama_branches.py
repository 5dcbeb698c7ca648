"""Logits of what may follow one context in llama.cpp, the context decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgetune.runtimes import count_together
from edgetune.runtimes.llama_batch import BATCH_TOKENS, spans
from edgetune.runtimes.llama_sequences import Decode


def logits_after(
    decode: Decode, forget: Callable[[int], bool], vocabulary: int, context: Sequence[int],
    branches: Sequence[Sequence[int]],
) -> Iterator[np.ndarray]:  # fmt: skip
    """Yield float32 ``[P, V]``; see :func:`edgetune.runtimes.likelihood.logits_after`.

    Args:
        decode: runs tokens of one sequence, which is empty.
        forget: drops the sequence's tokens from a position on; drops all and returns False where
            it cannot, as a recurrent state keeps no earlier one to go back to.
        vocabulary: V.
        context: ids.
        branches: ids of each branch.
    """
    yield _decode_context(decode, context)
    step = min(BATCH_TOKENS, count_together(vocabulary))
    begin = len(context)
    for number, branch in enumerate(branches):
        if number and not forget(begin):
            _decode_context(decode, context)
        tokens = np.asarray(branch, np.int32)
        for first in range(0, len(tokens), step):
            block = tokens[first : first + step]
            places = np.arange(begin + first, begin + first + len(block))
            yield decode(block, places, 0, 1).copy()


def _decode_context(decode: Decode, context: Sequence[int]) -> np.ndarray:
    """Return the logits after the last token, ``[1, V]``."""
    tokens = np.asarray(context, np.int32)
    wanted = np.zeros(len(tokens), np.int8)
    wanted[-1] = 1
    for first, last in spans(len(tokens)):
        scores = decode(tokens[first:last], np.arange(first, last), 0, wanted[first:last])
    return scores.copy()
