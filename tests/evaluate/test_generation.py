"""Metrics of texts equal their libraries', on random and on ugly texts."""

from __future__ import annotations

import math
import random

import jiwer
import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from edgetune.evaluate import TASKS, Questions, edits, ngrams, rouge
from edgetune.evaluate.scripts import words
from edgetune.measure.bootstrap import Sums

WORDS = ["the", "cat", "sat", "on", "mat", ".", "Ünïcode", "日本語", "a-b", "42,000", "\t", "x"]


def random_texts(seed: int) -> tuple[list[str], list[str]]:
    """Some answers and rows: equal, alike, strange, and empty."""
    generator = random.Random(seed)
    expected = [
        " ".join(generator.choices(WORDS, k=generator.choice([1, 2, 5, 12])))
        for _ in range(generator.choice([1, 2, 8]))
    ]
    kinds = [
        lambda text: text,
        lambda text: "",
        lambda text: " ".join(generator.choices(WORDS, k=6)),
        lambda text: text[: len(text) // 2],
    ]
    return [generator.choice(kinds)(text) for text in expected], expected


@pytest.mark.parametrize("seed", range(40))
def test_bleu_and_chrf_equal_sacrebleu(seed: int) -> None:
    answers, expected = random_texts(seed)
    bleu = ngrams.score_bleu(answers, expected, "13a")
    metric = BLEU(force=True)
    assert bleu.estimate.value == pytest.approx(metric.corpus_score(answers, [expected]).score)
    assert bleu.note == str(metric.get_signature())
    chrf, metric = ngrams.score_chrf(answers, expected), CHRF()
    assert chrf.estimate.value == pytest.approx(metric.corpus_score(answers, [expected]).score)
    assert chrf.note == str(metric.get_signature())


def test_sums_of_many_resamples_are_scored_as_one_by_one() -> None:
    generator = np.random.default_rng(0)
    hits = generator.integers(0, 3, (50, 4))
    totals = hits + generator.integers(0, 3, (50, 4))
    lengths = generator.integers(1, 20, (50, 2))
    found = ngrams.bleu_of_sums(np.hstack([lengths, hits, totals]).astype(float))
    wanted = [
        BLEU.compute_bleu(h.tolist(), t.tolist(), int(n[0]), int(n[1]), smooth_method="exp").score
        for h, t, n in zip(hits, totals, lengths, strict=True)
    ]
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(20))
def test_rouge_equals_rouge_score_on_ascii(seed: int) -> None:
    answers, expected = random_texts(seed)
    answers = [text.encode("ascii", "ignore").decode() for text in answers]
    expected = [text.encode("ascii", "ignore").decode() for text in expected]
    scorer = RougeScorer(["rougeL"])
    wanted = [scorer.score(b, a)["rougeL"].fmeasure for a, b in zip(answers, expected, strict=True)]
    assert rouge.score_rouge(answers, expected).rows == pytest.approx(wanted)


def test_rouge_reads_other_scripts() -> None:
    assert words("Fünf: 日本語 und_mehr") == ["fünf", "日", "本", "語", "und", "mehr"]
    score = rouge.score_rouge(["Привет мир", "日本"], ["привет мир", "日本語"])
    assert score.rows == pytest.approx([1.0, 0.8])  # rouge-score's own tokenizer says 0 and 0


@pytest.mark.parametrize("seed", range(20))
def test_error_rates_equal_jiwer(seed: int) -> None:
    answers, expected = random_texts(seed)
    answers = [" ".join(text.split()) for text in answers]
    expected = [" ".join(text.split()) or "x" for text in expected]
    found = {one.name: one.estimate.value for one in edits.score_edits(answers, expected)}
    assert found["word_error_rate"] == pytest.approx(jiwer.wer(expected, answers))
    assert found["character_error_rate"] == pytest.approx(jiwer.cer(expected, answers))


def test_an_empty_reference_counts_all_that_is_inserted() -> None:
    words, signs = edits.score_edits(["two words", "x"], ["", "x"])
    assert (words.estimate.value, signs.estimate.value) == (2.0, 9.0)
    assert all(math.isnan(one.estimate.value) for one in edits.score_edits(["a"], [""]))


@pytest.mark.parametrize("task", ["generation", "translation"])
def test_the_headline_comes_first_and_every_score_is_defined(task: str) -> None:
    graded = TASKS[task].grade(Questions(["?"] * 2, ["a b c", "d e f"]), ["a b", "d e f"])
    assert graded.scores[0].name == TASKS[task].headline
    assert {one.name for one in graded.scores} == set(TASKS[task].definitions)
    assert graded.right is None
    assert all(one.rows is not None or isinstance(one.sums, Sums) for one in graded.scores)
