"""Word and character error rates by jiwer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jiwer
import numpy as np

from edgetune.evaluate import REMEMBERED, Score
from edgetune.measure.bootstrap import bootstrap, ratio, sums_of
from edgetune.measure.definitions import Definition
from edgetune.measure.statistics import Estimate

_RATE = (
    "{unit} that are inserted, deleted or replaced between answers and rows, over those of all "
    "rows, by jiwer: 0 is best, and more than 1 is possible; the interval is BCa's bootstrap over "
    "rows"
)
DEFINITIONS = {
    "word_error_rate": Definition("Word error rate", "", _RATE.format(unit="words")),
    "character_error_rate": Definition(
        "Character error rate", "", _RATE.format(unit="characters")
    ),
}  # fmt: skip


def score_edits(answers: Sequence[str], expected: Sequence[str]) -> list[Score]:
    """Return word and character error rates; NaN where all expected texts are empty."""
    pairs = list(zip(answers, expected, strict=True))
    words = [_edit_words(*pair) for pair in pairs]
    signs = [_edit_characters(*pair) for pair in pairs]
    return [_rate("word_error_rate", words), _rate("character_error_rate", signs)]


@lru_cache(REMEMBERED)
def _edit_words(answer: str, wanted: str) -> tuple[int, int]:
    return _edits(answer, wanted, jiwer.process_words, str.split, " ")


@lru_cache(REMEMBERED)
def _edit_characters(answer: str, wanted: str) -> tuple[int, int]:
    return _edits(answer, wanted, jiwer.process_characters, _characters, "")


def _characters(text: str) -> list[str]:
    return list(text.strip())


def _edits(
    answer: str,
    wanted: str,
    process: Callable[[str, str], Any],
    split: Callable[[str], list[str]],
    joint: str,
) -> tuple[int, int]:
    """Return how many edits lead from one text to the other, and the length of what is wanted."""
    found, aim = split(answer), split(wanted)
    if not found or not aim:  # jiwer refuses an empty reference
        return max(len(found), len(aim)), len(aim)
    counts = process(joint.join(aim), joint.join(found))
    return counts.substitutions + counts.deletions + counts.insertions, len(aim)


def _rate(name: str, rows: Sequence[tuple[int, int]]) -> Score:
    if not sum(length for _, length in rows):
        return Score(name, Estimate(float("nan"), len(rows)))
    sums = sums_of(np.array(rows, np.float64), _ratio)
    return Score(name, bootstrap(sums), sums=sums)


def _ratio(sums: np.ndarray) -> np.ndarray:
    return ratio(sums[:, 0], sums[:, 1])
