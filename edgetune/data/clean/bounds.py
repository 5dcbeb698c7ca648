"""Bounds on a row's length and on how much of it repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgetune.data.clean.shingles import hash_windows
from edgetune.data.clean.texts import list_contents
from edgetune.data.rows import Row
from edgetune.recipe import CleanSection

#: Characters of a window that counts as repeated; longer than any common phrase.
WINDOW = 24
#: Texts with fewer windows are too short to say that they repeat themselves.
FEWEST = 150


def check_lengths(
    rows: Sequence[Row], section: CleanSection
) -> list[tuple[Row | None, tuple[str, ...]]]:
    """Drop rows with fewer or more characters, over all turns, than the bounds."""
    low, high = section.min_characters, section.max_characters
    outcomes: list[tuple[Row | None, tuple[str, ...]]] = []
    for row in rows:
        count = sum(map(len, list_contents(row))) if low or high else 0
        if low is not None and count < low:
            outcomes.append((None, ("shorter than min_characters",)))
        elif high is not None and count > high:
            outcomes.append((None, ("longer than max_characters",)))
        else:
            outcomes.append((row, ()))
    return outcomes


def check_repetition(
    rows: Sequence[Row], section: CleanSection
) -> list[tuple[Row | None, tuple[str, ...]]]:
    """Drop rows with a turn of which more than ``max_repetition`` occurs earlier in it."""
    texts, owners = [], []
    for number, row in enumerate(rows):
        for content in list_contents(row):
            if len(content) >= FEWEST + WINDOW:
                texts.append(content)
                owners.append(number)
    shares = repeated_shares(texts)
    found = {
        owner
        for owner, share in zip(owners, shares.tolist(), strict=True)
        if share > section.max_repetition
    }
    reason = ("repeats itself",)
    return [(None, reason) if n in found else (row, ()) for n, row in enumerate(rows)]


def repeated_shares(texts: Sequence[str]) -> np.ndarray:
    """Return the fraction of each text's windows of 24 characters that occur earlier in it."""
    shares = np.zeros(len(texts))
    for number, hashes in hash_windows(texts, WINDOW):
        ordered = np.sort(hashes)
        shares[number] = np.count_nonzero(ordered[1:] == ordered[:-1]) / len(ordered)
    return shares
