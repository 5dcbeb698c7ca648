"""Examples for a prompt: answered train rows, by a seed or by similarity, never the row itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from edgetune.data.clean.shingles import hash_set, hash_shingles
from edgetune.data.dataset.texts import prompt_text
from edgetune.data.rows import Row
from edgetune.data.split import choose_rows, prompt_key

#: Train rows among which examples are looked for, chosen by the seed.
POOL = 20_000


class Examples:
    """Chooses examples for questions.

    A row whose prompt is the question's, or similar to it (Jaccard similarity of shingles, as
    leaks are found), is none: it would give the answer away.

    Args:
        rows: of train; plain texts and rows without an answer are left out.
        similar: the most similar prompts first, instead of the seed's order.
        threshold: similarity from which a row is a leak.
        seed: of the choice, the same rows for every question.
    """

    def __init__(self, rows: Sequence[Row], similar: bool, threshold: float, seed: int) -> None:
        pool = [row for row in choose_rows(rows, POOL, seed) if row.text is None and row.answer]
        random.Random(seed).shuffle(pool)
        sets = _hash_texts([prompt_text(row) for row in pool])
        owners = np.repeat(np.arange(len(pool)), [len(one) for one in sets])
        hashes = np.concatenate([*sets, np.empty(0, np.uint64)])
        order = np.argsort(hashes, kind="stable")
        self._rows, self._similar, self._threshold = pool, similar, threshold
        self._keys = [prompt_key(row) for row in pool]
        self._sizes = np.array([len(one) for one in sets], np.int64)
        self._hashes, self._owners = hashes[order], owners[order]

    def choose(self, row: Row, count: int) -> list[Row]:
        """Return ``count`` examples for a question, or as many as there are.

        The most similar comes last, next to the question.
        """
        if not self._rows or count == 0:
            return []
        jaccard = self._compare(prompt_text(row))
        order = np.argsort(-jaccard, kind="stable") if self._similar else np.arange(len(jaccard))
        key = prompt_key(row)
        chosen: list[Row] = []
        for at in order.tolist():
            other = self._rows[at]
            if jaccard[at] < self._threshold and self._keys[at] != key and other.tools == row.tools:
                chosen.append(other)
                if len(chosen) == count:
                    break
        return chosen[::-1]

    def _compare(self, text: str) -> np.ndarray:
        """Return the Jaccard similarity of a text and each row's prompt, float64 [rows]."""
        wanted = _hash_texts([text])[0]
        low, high = (np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))
        places = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
        shared = np.bincount(self._owners[np.concatenate(places)], minlength=len(self._rows))
        return np.asarray(shared / np.maximum(self._sizes + len(wanted) - shared, 1), np.float64)


def _hash_texts(texts: Sequence[str]) -> list[np.ndarray]:
    """Return the set of each text's shingles, sorted."""
    return [
        hash_set(hashes[begin:end])
        for _, hashes, starts in hash_shingles(texts)
        for begin, end in pairwise(starts.tolist())
    ]
