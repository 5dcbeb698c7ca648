"""What a context of llama.cpp keeps of its sequences: cut, shared and dropped."""

from __future__ import annotations

from typing import Any

from llama_cpp import llama_cpp as c


class Memory:
    """The cache of a context.

    Args:
        context: a ``llama_context``.
        shares: whether its sequences may hold tokens in common, in one cache.
    """

    def __init__(self, context: Any, shares: bool) -> None:
        self._memory, self.shares = c.llama_get_memory(context), shares

    def forget(self, position: int) -> bool:
        """Drop the first sequence's tokens from a position on.

        A recurrent state keeps no earlier one to go back to: then all are dropped, and the answer
        is False.
        """
        if c.llama_memory_seq_rm(self._memory, 0, position, -1):
            return True
        c.llama_memory_clear(self._memory, False)
        return False

    def share(self, count: int) -> None:
        """Give the sequences 1 to ``count`` what the first one holds."""
        for sequence in range(1, count + 1):
            c.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)

    def drop(self, count: int) -> None:
        """Drop the sequences 1 to ``count``."""
        for sequence in range(1, count + 1):
            c.llama_memory_seq_rm(self._memory, sequence, -1, -1)
