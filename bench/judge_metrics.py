"""The largest difference of each metric to its library, over many random and ugly cases."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jiwer
import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sklearn import metrics

from edgetune.evaluate import TASKS, Questions
from edgetune.evaluate.json_values import fields

CASES, QUICK_CASES = 400, 20
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    ".",
    "Ünïcode",
    "日本語",
    "a-b",
    "42,000",
    "x",
    "🙂",
    "'",
]
Values = dict[str, float]


def metric_difference(quick: bool) -> Iterator[dict[str, Any]]:
    """Yield for each group of metrics the largest absolute difference to its library."""
    groups: dict[str, Callable[[random.Random], tuple[Values, Values]]] = {
        "classification": _labels,
        "calibration": _calibration,
        "extraction": _json,
        "generation": _texts,
        "exact": _exact,
    }
    cases, largest = QUICK_CASES if quick else CASES, 0.0
    warnings.simplefilter("ignore")
    for group, draw in groups.items():
        differences: dict[str, float] = {}
        for seed in range(cases):
            found, wanted = draw(random.Random(seed))
            for name, value in wanted.items():
                off = 0.0 if _both_undefined(found[name], value) else abs(found[name] - value)
                differences[name] = max(differences.get(name, 0.0), off)
        largest = max(largest, *differences.values())
        yield {"group": group, "cases": cases, "largest_difference": differences}
    yield {"figure": largest, "cases": cases * len(groups)}


def _both_undefined(one: float, other: float) -> bool:
    return one != one and other != other


def _grade(task: str, expected: list[str], answers: list[str], **options: Any) -> Values:
    graded = TASKS[task].grade(Questions(["?"] * len(expected), expected, options), answers)
    return {score.name: score.estimate.value for score in graded.scores}


def _labels(generator: random.Random) -> tuple[Values, Values]:
    """One class or many, all wrong, all right, answers that are no label, empty ones."""
    labels = generator.sample([*WORDS, "a b", "z" * 90], generator.choice([1, 2, 3, 9]))
    expected = generator.choices(labels, k=generator.choice([1, 2, 7, 60]))
    others = [*labels, "", "no label", generator.choice(labels).upper() + "?"]
    right = generator.choice([0.0, 0.5, 0.9, 1.0])
    answers = [
        label if generator.random() < right else generator.choice(others) for label in expected
    ]
    known = sorted(set(expected))
    wanted = {"accuracy": float(metrics.accuracy_score(expected, answers))}
    for how in ("macro", "micro", "weighted"):
        values = metrics.precision_recall_fscore_support(
            expected, answers, labels=known, average=how, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True):
            wanted[f"{name}_{how}"] = float(value)
    return _grade("classification", expected, answers), wanted


def _calibration(generator: random.Random) -> tuple[Values, Values]:
    labels = WORDS[: generator.choice([2, 3, 9])]
    numbers = np.random.default_rng(generator.randrange(2**31))
    n = generator.choice([5, 80])
    scores = numbers.normal(0, generator.choice([0.1, 1, 20]), (n, len(labels)))
    expected = [labels[at] for at in numbers.integers(0, len(labels), n)]
    log_probs = [dict(zip(labels, row.tolist(), strict=True)) for row in scores]
    found = _grade("classification", expected, expected, labels=labels, label_log_probs=log_probs)
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    order = sorted(labels)
    columns = [labels.index(label) for label in order]
    chosen = [labels[at] for at in chances.argmax(axis=1)]
    brier = metrics.brier_score_loss(
        expected, chances[:, columns], labels=order, scale_by_half=False
    )
    accuracy = metrics.accuracy_score(expected, chosen)
    return found, {"likelihood_accuracy": float(accuracy), "brier": float(brier)}


def _json(generator: random.Random) -> tuple[Values, Values]:
    def draw() -> str:
        value = {key: generator.choice(["x", "日", 1, 2.5, None, True])
                 for key in "abcde" if generator.random() < 0.6}  # fmt: skip
        ugly = ["", "{", "NaN", "[]", json.dumps({"deep": {"er": value}})]
        keys = list(value)
        generator.shuffle(keys)
        text = json.dumps({key: value[key] for key in keys}, indent=generator.choice([None, 1]))
        return generator.choice([text] * 5 + ugly)

    n = generator.choice([1, 5, 30])
    expected, answers = [draw() for _ in range(n)], [draw() for _ in range(n)]
    answers = [a if generator.random() < 0.5 else b for a, b in zip(answers, expected, strict=True)]
    cases: list[tuple[bool, bool]] = []
    for row, answer in zip(expected, answers, strict=True):
        one, other = set(_leaves(row)), set(_leaves(answer))
        cases += [(case in one, case in other) for case in sorted(one | other)]
    values = metrics.precision_recall_fscore_support(
        [a for a, _ in cases] or [False], [b for _, b in cases] or [False],
        pos_label=True, average="binary", zero_division=0,
    )  # fmt: skip
    names = ("field_precision", "field_recall", "field_f1")
    wanted = {name: float(value) for name, value in zip(names, values[:3], strict=True)}
    return _grade("extraction", expected, answers), wanted


def _leaves(text: str) -> list[tuple[str, str]]:
    try:
        value = json.loads(text, parse_constant=lambda name: json.loads(""))
    except ValueError:
        return []
    return list(fields(value))


def _texts(generator: random.Random) -> tuple[Values, Values]:
    n = generator.choice([1, 2, 12])
    expected = [
        " ".join(generator.choices(WORDS, k=generator.choice([1, 3, 15]))) for _ in range(n)
    ]
    answers = []
    for text in expected:
        other = " ".join(generator.choices(WORDS, k=8))
        answers.append(generator.choice([text, "", other, text[: len(text) // 2], text * 2]))
    found = _grade("generation", expected, answers, bleu_tokenize="13a")
    wanted = {
        "bleu": BLEU(force=True).corpus_score(answers, [expected]).score,
        "chrf": CHRF().corpus_score(answers, [expected]).score,
        "word_error_rate": float(jiwer.wer(expected, answers)),
        "character_error_rate": float(jiwer.cer(expected, answers)),
    }
    plain = [text.encode("ascii", "ignore").decode() for text in [*expected, *answers]]
    scorer = RougeScorer(["rougeL"])
    pairs = list(zip(plain[:n], plain[n:], strict=True))
    rouge = float(np.mean([scorer.score(a, b)["rougeL"].fmeasure for a, b in pairs]))
    ascii_found = _grade("generation", plain[:n], plain[n:])["rouge_l"]
    return {**found, "rouge_l": ascii_found}, {**wanted, "rouge_l": rouge}


def _exact(generator: random.Random) -> tuple[Values, Values]:
    texts = ["", "a", "A", "日本", "a b", "0"]
    n = generator.choice([1, 4, 50])
    expected, answers = generator.choices(texts, k=n), generator.choices(texts, k=n)
    wanted = {"exact_match": float(metrics.accuracy_score(expected, answers))}
    return _grade("exact", expected, answers), wanted
