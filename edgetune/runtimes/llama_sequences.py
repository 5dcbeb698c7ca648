"""Sequences that llama.cpp continues together: decoded a token each, greedily or at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgetune.runtimes import greedy
from edgetune.runtimes.llama_batch import spans
from edgetune.runtimes.sampling import Picker

#: Tokens, positions, sequences, which logits are wanted → these logits.
Decode = Callable[[np.ndarray, np.ndarray, Any, Any], np.ndarray]


class Sequences:
    """Sequences of any lengths, continued together: a :class:`edgetune.runtimes.greedy.Decoder`."""

    def __init__(
        self, decode: Decode, prompts: greedy.Prompts, picker: Picker | None = None
    ) -> None:
        self._decode, self._picker = decode, picker
        lengths = np.array([len(prompt) for prompt in prompts])
        self._ids = np.arange(len(prompts), dtype=np.int32)
        self._positions = lengths.astype(np.int32)
        tokens = np.concatenate([np.asarray(prompt, np.int32) for prompt in prompts])
        positions = np.concatenate([np.arange(length) for length in lengths])
        owners = np.repeat(self._ids, lengths)
        wanted = np.zeros(len(tokens), np.int8)
        wanted[np.cumsum(lengths) - 1] = 1
        self.tokens: list[int] = []
        for first, last in spans(len(tokens)):
            span = slice(first, last)
            scores = decode(tokens[span], positions[span], owners[span], wanted[span])
            self.tokens += self._pick(scores, len(self.tokens))

    def advance(self, keep: list[int]) -> None:
        if self._picker:
            self._picker.keep(keep)
        tokens = np.array([self.tokens[slot] for slot in keep], np.int32)
        self._ids, self._positions = self._ids[keep], self._positions[keep]
        scores = self._decode(tokens, self._positions, self._ids, 1)
        self._positions += 1
        self.tokens = self._pick(scores)

    def _pick(self, scores: np.ndarray, first: int = 0) -> list[int]:
        if self._picker:
            return self._picker.pick(scores, first)
        return [int(token) for token in scores.argmax(axis=1)]
