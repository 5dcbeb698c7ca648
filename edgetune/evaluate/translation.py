"""Translations: the measures of free text, with chrF first.

Options: ``bleu_tokenize``, sacrebleu's name of a tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.evaluate import Graded, Questions, generation

DEFINITIONS = generation.DEFINITIONS
_FIRST = ("chrf", "bleu")


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade translations.

    Raises:
        ValueError: not as many answers as questions, or none.
    """
    scores = generation.grade(questions, answers).scores
    return Graded(sorted(scores, key=lambda one: (*map(one.name.__ne__, _FIRST),)))
