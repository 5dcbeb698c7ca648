"""Free text, compared with a reference text. Nothing is right or wrong as a whole.

Options: ``bleu_tokenize``, sacrebleu's name of a tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.evaluate import Graded, Questions, edits, ngrams, rouge

DEFINITIONS = {**rouge.DEFINITIONS, **ngrams.DEFINITIONS, **edits.DEFINITIONS}


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade texts by ROUGE-L, chrF, BLEU and error rates.

    Raises:
        ValueError: not as many answers as questions, or none.
    """
    expected = questions.expected
    tokenize = str(questions.options.get("bleu_tokenize") or "")
    return Graded(
        [
            rouge.score_rouge(answers, expected),
            ngrams.score_chrf(answers, expected),
            ngrams.score_bleu(answers, expected, tokenize),
            *edits.score_edits(answers, expected),
        ]
    )
