"""BLEU and chrF by sacrebleu, from each row's sufficient statistics, so that rows are resampled.

Shapes: N rows, M sets of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from edgetune.evaluate import REMEMBERED, Score
from edgetune.evaluate.scripts import is_cjk
from edgetune.measure.bootstrap import bootstrap, ratio, sums_of
from edgetune.measure.definitions import Definition

ORDER = 4  # BLEU's longest n-gram
CHARACTERS = 6  # chrF's
BETA = 2  # how much more recall counts than precision in chrF

DEFINITIONS = {
    "bleu": Definition(
        "BLEU", "",
        "BLEU of all rows together, 0 to 100 (Papineni et al. 2002), by sacrebleu, whose signature "
        "is given; the interval is BCa's bootstrap over rows",
    ),
    "chrf": Definition(
        "chrF", "",
        "F score of character n-grams of all rows together, 0 to 100 (Popović 2015), by "
        "sacrebleu, whose signature is given; the interval is BCa's bootstrap over rows",
    ),
}  # fmt: skip


def score_bleu(answers: Sequence[str], expected: Sequence[str], tokenize: str = "") -> Score:
    """Return BLEU of all rows.

    Args:
        answers: of the model.
        expected: one reference for each.
        tokenize: sacrebleu's name of a tokenizer; empty is ``13a``, or ``zh`` where most letters
            of the references are Chinese, Japanese or Korean.
    """
    tokenize = tokenize or ("zh" if is_cjk(expected) else "13a")
    metric = _make_bleu(tokenize)
    rows = [_count_words(tokenize, *pair) for pair in zip(answers, expected, strict=True)]
    sums = sums_of(np.asarray(rows, np.float64), bleu_of_sums, (0.0, 100.0))
    return Score("bleu", bootstrap(sums), sums=sums, note=str(metric.get_signature()))


def score_chrf(answers: Sequence[str], expected: Sequence[str]) -> Score:
    """Return chrF of all rows."""
    metric = _make_chrf()
    rows = [_count_characters(*pair) for pair in zip(answers, expected, strict=True)]
    sums = sums_of(np.asarray(rows, np.float64), chrf_of_sums, (0.0, 100.0))
    return Score("chrf", bootstrap(sums), sums=sums, note=str(metric.get_signature()))


@cache
def _make_bleu(tokenize: str) -> BLEU:
    metric = BLEU(tokenize=tokenize, force=True)
    metric.corpus_score([""], [[""]])  # the signature needs to know how many references there are
    return metric


@cache
def _make_chrf() -> CHRF:
    metric = CHRF(char_order=CHARACTERS, beta=BETA)
    metric.corpus_score([""], [[""]])
    return metric


@lru_cache(REMEMBERED)
def _count_words(tokenize: str, answer: str, wanted: str) -> tuple[int, ...]:
    """Return the statistics of one row, as :func:`bleu_of_sums` reads them."""
    (counts,) = _make_bleu(tokenize)._extract_corpus_statistics([answer], [[wanted]])
    return tuple(counts)


@lru_cache(REMEMBERED)
def _count_characters(answer: str, wanted: str) -> tuple[int, ...]:
    """Return the statistics of one row, as :func:`chrf_of_sums` reads them."""
    (counts,) = _make_chrf()._extract_corpus_statistics([answer], [[wanted]])
    return tuple(counts)


def bleu_of_sums(sums: np.ndarray) -> np.ndarray:
    """Return BLEU with exponential smoothing of sums, shape (M, 2 + 2 x 4).

    Columns are the lengths of answers and references, then for each order the n-grams that match,
    then those of the answers, as sacrebleu counts them.
    """
    answers, references = sums[:, 0], sums[:, 1]
    hits, totals = sums[:, 2 : 2 + ORDER], sums[:, 2 + ORDER :]
    zeros = (hits == 0) & (totals > 0)
    smoothed = np.where(zeros, 0.5 ** np.cumsum(zeros, axis=1), hits)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smoothed / totals).sum(axis=1) / ORDER
        penalty = np.where(answers < references, 1 - references / answers, 0.0)
        values = 100 * np.exp(penalty + logs)
    defined = (hits.sum(axis=1) > 0) & (totals > 0).all(axis=1) & (answers > 0)
    return np.where(defined, values, 0.0)


def chrf_of_sums(sums: np.ndarray) -> np.ndarray:
    """Return chrF of sums, shape (M, 3 x 6).

    Columns are for each order the n-grams of answers, of references, and those that match.
    """
    answers, references, hits = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
    both = (answers > 0) & (references > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision = ratio(hits, np.where(both, answers, 0)).sum(axis=1) / orders
    recall = ratio(hits, np.where(both, references, 0)).sum(axis=1) / orders
    below = BETA**2 * precision + recall
    above = (1 + BETA**2) * precision * recall
    return 100 * ratio(above, below)
