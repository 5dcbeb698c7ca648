"""How often 95 % intervals and tests hold in simulation, by kind and number of rows.

Rows are drawn from a population whose metric is known, or with replacement from a large pool whose
metric is that of all its rows; counted is how often the interval covers it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgetune.evaluate import Score, ngrams
from edgetune.evaluate.confusion import average, class_sums
from edgetune.evaluate.fields import f1_of_fields
from edgetune.evaluate.paired import Difference, compare_scores
from edgetune.measure import statistics
from edgetune.measure.bootstrap import (
    RESAMPLES,
    Sums,
    bootstrap,
    bootstrap_difference,
    bounded_mean,
    sums_of,
)
from edgetune.measure.statistics import Estimate

TRIALS, CHEAP_TRIALS, QUICK_TRIALS = 1000, 5000, 50
STATED_ROWS = 100  # from which docs/evaluation.md says that intervals hold
POOL = 3000  # rows of the population where its metric has no closed form
WORDS = [f"w{at}" for at in range(40)]
Draw = Callable[[np.random.Generator, int], tuple[Estimate, float]]


def interval_coverage(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield the coverage of each kind of interval at several numbers of rows."""
    worst = 0.95
    for number, (kind, (draw, sizes, trials)) in enumerate(make_kinds().items()):
        trials = QUICK_TRIALS if quick else trials
        for rows in sizes:
            began, below, above = time.process_time(), 0, 0
            generator = np.random.default_rng([number, rows])
            for _ in range(trials):
                estimate, truth = draw(generator, rows)
                low, high = estimate.ci95 or (np.nan, np.nan)
                below += truth > high
                above += truth < low
            coverage = 1 - (below + above) / trials
            if rows >= STATED_ROWS:
                worst = max(worst, coverage, key=lambda value: abs(value - 0.95))
            yield {
                "kind": kind, "rows": rows, "trials": trials, "coverage": coverage,
                "truth_above": below / trials, "truth_below": above / trials,
                "cpu_seconds": round(time.process_time() - began, 1),
            }  # fmt: skip
    yield {"figure": worst, "from_rows": STATED_ROWS, "resamples": RESAMPLES}


def difference_alarms(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield how often a test finds a difference at 5 % between models that are alike."""
    trials, worst = QUICK_TRIALS if quick else TRIALS, 0.0
    kinds = {
        "right answers (McNemar mid-p)": _paired_hits(0.0, 0.12),
        "scores in [0, 1] (Wilcoxon)": _paired_scores,
        "F1 macro (permutation)": _paired_f1(0.85, 0.85),
        "BLEU (permutation)": _paired_bleu(0.3, 0.3),
    }
    for number, (kind, draw) in enumerate(kinds.items()):
        for rows in (50, 200):
            generator = np.random.default_rng([number, rows])
            pairs = (draw(generator, rows)[:2] for _ in range(trials))
            alarms = sum(_compare(*pair).p_value <= 0.05 for pair in pairs) / trials
            worst = max(worst, alarms)
            yield {"kind": kind, "rows": rows, "trials": trials, "alarms": alarms}
    yield {"figure": worst, "trials": trials}


def make_kinds() -> dict[str, tuple[Draw, tuple[int, ...], int]]:
    """Return each kind of interval: a draw of it with the truth, numbers of rows, and trials."""
    bleu, chrf = _texts(ngrams.score_bleu), _texts(ngrams.score_chrf)
    hits, f1 = _interval(_paired_hits(0.06, 0.1)), _interval(_paired_f1(0.9, 0.85))
    return {
        "proportion of 0.8 (Wilson)": (_proportion(0.8), (50, 100, 300, 1000), CHEAP_TRIALS),
        "proportion of 0.97 (Wilson)": (_proportion(0.97), (100, 300, 1000), CHEAP_TRIALS),
        "mean per token (ratio of sums)": (_tokens, (50, 100, 300), CHEAP_TRIALS),
        "difference of right answers (Agresti-Min)": (hits, (50, 100, 300), CHEAP_TRIALS),
        "F1 macro, 7 labels, accuracy 0.9 (BCa)": (_f1(7, 0.9, 0.0), (100, 300, 1000), TRIALS),
        "F1 macro, 20 skewed labels, accuracy 0.8 (BCa)": (_f1(20, 0.8, 0.7), (300,), TRIALS),
        "F1 macro, 77 labels, accuracy 0.85 (BCa)": (_f1(77, 0.85, 0.0), (500, 1000), TRIALS),
        "mean of scores in [0, 1] (BCa)": (_bounded, (50, 100), TRIALS),
        "Brier score (BCa)": (_brier, (100, 300), TRIALS),
        "field F1 (BCa)": (_fields, (50, 100, 300), TRIALS),
        "BLEU (BCa)": (bleu, (50, 100, 300), TRIALS),
        "chrF (BCa)": (chrf, (50, 100), TRIALS),
        "difference of F1 macro (paired BCa)": (f1, (100, 300), TRIALS),
        "difference of BLEU (paired BCa)": (_interval(_paired_bleu(0.25, 0.3)), (50, 100), TRIALS),
    }


def _proportion(truth: float) -> Draw:
    return lambda generator, rows: (
        statistics.proportion(int(generator.binomial(rows, truth)), rows), truth,
    )  # fmt: skip


def _bounded(generator: np.random.Generator, rows: int) -> tuple[Estimate, float]:
    """ROUGE-like scores: many at 1, the others skewed."""
    scores = np.where(generator.random(rows) < 0.3, 1.0, generator.beta(1.0, 2.0, rows))
    return bounded_mean(scores.tolist()), 0.3 + 0.7 / 3


def _tokens(generator: np.random.Generator, rows: int) -> tuple[Estimate, float]:
    """A skewed loss per token in rows of different lengths."""
    counts = generator.integers(5, 80, rows)
    sums = generator.gamma(2.0, 0.5, rows) * counts
    return statistics.ratio_of_sums(sums.tolist(), counts.tolist()), 1.0


def _joint(labels: int, accuracy: float, skew: float) -> np.ndarray:
    """Return the probability of each label and answer, shape (C, C)."""
    prior = np.arange(1.0, labels + 1) ** -skew
    cells = np.full((labels, labels), (1 - accuracy) / (labels - 1))
    np.fill_diagonal(cells, accuracy)
    joint: np.ndarray = prior[:, None] / prior.sum() * cells
    return joint


def _true_f1(joint: np.ndarray) -> float:
    return float((2 * np.diag(joint) / (joint.sum(axis=0) + joint.sum(axis=1))).mean())


def _f1(labels: int, accuracy: float, skew: float) -> Draw:
    joint = _joint(labels, accuracy, skew)
    truth, formula = _true_f1(joint), average("f1", "macro")

    def draw(generator: np.random.Generator, rows: int) -> tuple[Estimate, float]:
        cells = generator.choice(labels * labels, rows, p=joint.reshape(-1))
        expected, answered = np.divmod(cells, labels)
        return bootstrap(class_sums(expected, answered, labels, formula)), truth

    return draw


def _brier(generator: np.random.Generator, rows: int) -> tuple[Estimate, float]:
    """A model of three labels that is right with the probability that it states."""
    chance = generator.choice([0.5, 0.8, 0.99], rows)
    others = (1 - chance) / 2
    hit = generator.random(rows) < chance
    right = (1 - chance) ** 2 + 2 * others**2
    wrong = chance**2 + (1 - others) ** 2 + others**2
    truth = np.mean([p * ((1 - p) ** 2 + (1 - p) ** 2 / 2)
                     + (1 - p) * (p**2 + (1 - (1 - p) / 2) ** 2 + ((1 - p) / 2) ** 2)
                     for p in (0.5, 0.8, 0.99)])  # fmt: skip
    return bounded_mean(np.where(hit, right, wrong).tolist(), (0.0, 2.0)), float(truth)


def _fields(generator: np.random.Generator, rows: int) -> tuple[Estimate, float]:
    """Rows of one to six fields, of which an answer has most; some answers do not parse."""
    wanted = generator.integers(1, 7, rows)
    parses = generator.random(rows) < 0.95
    found = wanted * parses
    hits = generator.binomial(found, 0.85)
    sums = sums_of(np.stack([hits, found, wanted], axis=1), f1_of_fields)
    return bootstrap(sums), 2 * 0.85 * 0.95 / 1.95


def _text_score(score: Callable[[list[str], list[str]], Score], noise: float, seed: int) -> Sums:
    """Return the sums of a pool of answers in which words are replaced with some probability."""
    generator = np.random.default_rng(0)  # of the references, which all pools share
    expected = [generator.choice(WORDS, length) for length in generator.integers(3, 25, POOL)]
    generator = np.random.default_rng([1, seed])
    answers = []
    for words in expected:
        level = noise * generator.choice([0.2, 1.0, 1.8])  # some rows are easy
        other = generator.choice(WORDS, len(words))
        answers.append(np.where(generator.random(len(words)) < level, other, words))
    found = score([" ".join(one) for one in answers], [" ".join(one) for one in expected]).sums
    assert found is not None
    return found


def _texts(score: Callable[[list[str], list[str]], Score]) -> Draw:
    pool = _text_score(score, 0.3, 0)
    truth = pool.value

    def draw(generator: np.random.Generator, rows: int) -> tuple[Estimate, float]:
        return bootstrap(_some(pool, generator.integers(0, POOL, rows))), truth

    return draw


def _some(pool: Sums, rows: np.ndarray) -> Sums:
    return sums_of(pool.statistics[pool.groups[rows]], pool.formula, pool.bounds)


#: Scores of two models on the same rows, and the true difference.
PairedDraw = Callable[[np.random.Generator, int], tuple[Score, Score, float]]


def _interval(draw: PairedDraw) -> Draw:
    def estimate(generator: np.random.Generator, rows: int) -> tuple[Estimate, float]:
        first, second, truth = draw(generator, rows)
        if first.sums is not None and second.sums is not None:
            return bootstrap_difference(first.sums, second.sums), truth
        return _compare(first, second).estimate, truth

    return estimate


def _compare(first: Score, second: Score) -> Difference:
    found = compare_scores(first, second)
    assert found is not None
    return found


def _score(sums: Sums | None = None, rows: np.ndarray | None = None) -> Score:
    values = None if rows is None else rows.astype(float).tolist()
    return Score("any", Estimate(0.0, 0), rows=values, sums=sums)


def _paired_hits(gain: float, differing: float) -> PairedDraw:
    """Two models of which so many rows differ, the first right in ``gain`` more of all."""

    def draw(generator: np.random.Generator, rows: int) -> tuple[Score, Score, float]:
        one, other = (differing + gain) / 2, (differing - gain) / 2
        kinds = generator.choice(
            4, rows, p=[0.7 * (1 - differing), one, other, 0.3 * (1 - differing)]
        )
        first, second = np.isin(kinds, (0, 1)), np.isin(kinds, (0, 2))
        return _score(rows=first), _score(rows=second), gain

    return draw


def _paired_scores(generator: np.random.Generator, rows: int) -> tuple[Score, Score, float]:
    common = generator.random(rows)
    first, second = (np.clip(common + generator.normal(0, 0.2, rows), 0, 1) for _ in range(2))
    return _score(rows=first), _score(rows=second), 0.0


def _paired_f1(first: float, second: float) -> PairedDraw:
    """Two models of seven labels that fail on some of the same rows."""
    labels, formula = 7, average("f1", "macro")
    truth = first - second  # labels are equally frequent, so F1 macro is the accuracy

    def answer(accuracy: float, ease: np.ndarray, expected: np.ndarray, other: np.ndarray) -> Score:
        given = np.where(ease < accuracy, expected, (expected + other) % labels)
        return _score(class_sums(expected, given, labels, formula))

    def draw(generator: np.random.Generator, rows: int) -> tuple[Score, Score, float]:
        expected = generator.integers(0, labels, rows)
        same = generator.random(rows)
        scores = []
        for accuracy in (first, second):
            ease = np.where(generator.random(rows) < 0.5, same, generator.random(rows))
            scores.append(answer(accuracy, ease, expected, generator.integers(1, labels, rows)))
        return scores[0], scores[1], truth

    return draw


def _paired_bleu(first: float, second: float) -> PairedDraw:
    pools = [_text_score(ngrams.score_bleu, noise, at) for at, noise in enumerate((first, second))]
    truth = pools[0].value - pools[1].value

    def draw(generator: np.random.Generator, rows: int) -> tuple[Score, Score, float]:
        chosen = generator.integers(0, POOL, rows)
        one, other = (_some(pool, chosen) for pool in pools)
        if first == second and generator.random() < 0.5:  # the pools differ by chance
            one, other = other, one
        return _score(one), _score(other), truth

    return draw
