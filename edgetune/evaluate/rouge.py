"""ROUGE-L by rouge-score."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version

from rouge_score.rouge_scorer import RougeScorer

from edgetune.evaluate import REMEMBERED, Score
from edgetune.evaluate.scripts import words
from edgetune.measure.bootstrap import bounded_mean
from edgetune.measure.definitions import Definition

DEFINITIONS = {
    "rouge_l": Definition(
        "ROUGE-L", "",
        "mean over rows of the F score of the longest common subsequence of words (Lin 2004), by "
        "rouge-score without stemming; words are runs of letters and digits of any script, which "
        "of English text are rouge-score's own; the interval is BCa's bootstrap over rows",
    ),
}  # fmt: skip


class _Words:
    """What rouge-score asks of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


_SCORER = RougeScorer(["rougeL"], tokenizer=_Words())


@lru_cache(REMEMBERED)
def _score(wanted: str, answer: str) -> float:
    return float(_SCORER.score(wanted, answer)["rougeL"].fmeasure)


def score_rouge(answers: Sequence[str], expected: Sequence[str]) -> Score:
    """Return ROUGE-L, the mean of the rows' F scores."""
    rows = [_score(*pair) for pair in zip(expected, answers, strict=True)]
    note = f"rouge-score {version('rouge-score')}"
    return Score("rouge_l", bounded_mean(rows), rows, note=note, bounds=(0.0, 1.0))
