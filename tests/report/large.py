"""A report of many models, rows and labels: made up, in the form that a run leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetune.measure.statistics import compare_paired, paired_difference, proportion

HOSTILE = "<script>document.title = 'taken'</script></script>\u2028<img src=x onerror=alert(1)>"
WORDS = [
    "my", "card", "has", "not", "arrived", "please", "send", "another", "before", "Friday", "and",
    "tell", "me", "why", "the", "transfer", "was", "declined", "größte", "Straße", "東京", "عنوان",
]  # fmt: skip
DEFINITIONS = {
    "accuracy": ("Accuracy", "fraction of rows whose label is right; the interval is Wilson's"),
    "macro_f1": ("Macro F1", "mean of F1 over the classes that test rows have"),
}


def make_report(
    base: dict[str, Any], *, models: int = 40, rows: int = 10_000, labels: int = 150, seed: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a report and the texts of its flips.

    Args:
        base: a report whose other parts are taken; its models are repeated up to ``models``.
        models, rows, labels: how many.
        seed: of all that is drawn.
    """
    draw = np.random.default_rng(seed)
    names = [
        f"label_{n:03d}" if n % 9 else f"a_long_label_of_a_bank_{n:03d}" for n in range(labels)
    ]
    expected = draw.integers(labels, size=rows)
    many = [_repeat(base["models"], n) for n in range(models)]
    answers = _answer(expected, [_accuracy(one) for one in many], labels, draw)
    right = answers == expected
    parts = []
    for model, given, hit in zip(many, answers, right, strict=True):
        parts.append(_part(model, names, expected, given, hit))
        model["measurements"] = [
            one for one in model["measurements"] if one["name"] != "exact_match"
        ] + _scores(hit, expected, given, labels, model["measurements"][0]["where"])
    definitions = {
        **base["definitions"],
        **{n: {"title": t, "unit": "", "text": x} for n, (t, x) in DEFINITIONS.items()},
    }
    evaluation = {
        "task": {"name": "classification", "guessed": True, "headline": "accuracy",
                 "why": f"every expected answer is one of {labels} short texts"},
        "rows": rows,
        "confidential": False,
        "models": parts,
        "differences": _differences(many, right),
        "flips": _count_flips(many, right),
    }  # fmt: skip
    report = {**base, "models": many, "definitions": definitions, "evaluation": evaluation}
    return report, _flips(many, names, expected, answers, right, draw)


def _repeat(models: Sequence[dict[str, Any]], number: int) -> dict[str, Any]:
    model = models[number % len(models)]
    again = number // len(models)
    one = {**model, "measurements": list(model["measurements"])}
    if again:
        one |= {"name": f"again{again}-{model['name']}", "role": "file"}
    return one


def _accuracy(model: dict[str, Any]) -> float:
    found = next((m["value"] for m in model["measurements"] if m["name"] == "exact_match"), 0.9)
    return float(found)


def _answer(
    expected: np.ndarray, accuracies: Sequence[float], labels: int, draw: np.random.Generator
) -> np.ndarray:
    """Answer as models of one family do: what is hard for one is hard for the others."""
    hardness = draw.random(len(expected))
    wrong = (expected + 1 + draw.integers(0, 3, size=len(expected))) % labels
    found = []
    for accuracy in accuracies:
        noise = draw.normal(0, 0.01, len(expected))
        found.append(np.where(hardness + noise < accuracy, expected, wrong))
    return np.stack(found)


def _score(name: str, value: float, hit: np.ndarray, where: dict[str, Any]) -> dict[str, Any]:
    ends = proportion(int(hit.sum()), len(hit)).ci95
    return {
        "name": name, "value": value, "unit": "", "n": len(hit),
        "ci95": list(ends) if ends else None, "where": where,
    }  # fmt: skip


def _scores(
    hit: np.ndarray, expected: np.ndarray, given: np.ndarray, labels: int, where: dict[str, Any]
) -> list[dict[str, Any]]:
    f1 = [_class(expected, given, label)[4] for label in range(labels)]
    known = [value for value in f1 if value is not None]
    return [
        _score("accuracy", float(hit.mean()), hit, where),
        _score("macro_f1", sum(known) / len(known), hit, where),
    ]


def _class(
    expected: np.ndarray, given: np.ndarray, label: int
) -> tuple[int, int, float | None, float | None, float | None]:
    has, said = expected == label, given == label
    both = int((has & said).sum())
    precision = both / int(said.sum()) if said.any() else None
    recall = both / int(has.sum()) if has.any() else None
    f1 = 2 * both / int(said.sum() + has.sum()) if has.any() or said.any() else None
    return int(has.sum()), int(said.sum()), precision, recall, f1


def _part(
    model: dict[str, Any], names: Sequence[str], expected: np.ndarray, given: np.ndarray,
    hit: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (expected, given), 1)
    classes = [[name, *_class(expected, given, n)] for n, name in enumerate(names)]
    confusion = [[name, *map(int, row)] for name, row in zip(names, matrix, strict=True)]
    thirds = np.arange(len(hit)) % 3
    slices = [
        {
            "column": "length", "value": value, "metric": "accuracy",
            "title": f"{value} prompts", "n": int((thirds == n).sum()),
            "value_of_metric": float(hit[thirds == n].mean()),
            "ci95": list(proportion(int(hit[thirds == n].sum()), int((thirds == n).sum())).ci95
                         or ()),
        }
        for n, value in enumerate(("short", "medium", "long"))
    ]  # fmt: skip
    return {
        "name": model["name"],
        "role": model["role"],
        "tables": [
            {"name": "per_class", "title": "Per class", "rows": classes,
             "columns": ["Label", "Rows", "Answers", "Precision", "Recall", "F1"]},
            {"name": "confusion", "title": "Confusion matrix", "rows": confusion,
             "columns": ["expected", *names]},
        ],
        "slices": slices,
    }  # fmt: skip


def _differences(models: Sequence[dict[str, Any]], right: np.ndarray) -> list[dict[str, Any]]:
    places = {model["role"]: n for n, model in reversed(list(enumerate(models)))}
    found = []
    for n, model in enumerate(models):
        for role in ("base", "teacher"):
            if role not in places or model["role"] in ("base", role):
                continue
            first, second = right[n].tolist(), right[places[role]].tolist()
            estimate = paired_difference(first, second)
            p_value = compare_paired([float(x) for x in first], [float(x) for x in second]).p_value
            found.append(
                {
                    "reference": models[places[role]]["name"], "candidate": model["name"],
                    "metric": "accuracy", "difference": estimate.value, "n": estimate.n,
                    "ci95": list(estimate.ci95) if estimate.ci95 else None,
                    "p_value": p_value, "p_adjusted": min(1.0, p_value * len(models)),
                    "rows_needed": 4 * estimate.n if p_value > 0.05 else None,
                }
            )  # fmt: skip
    return found


def _count_flips(models: Sequence[dict[str, Any]], right: np.ndarray) -> list[dict[str, Any]]:
    found = []
    for later in range(len(models)):
        for earlier in range(later):
            before, after = right[earlier], right[later]
            both = int((before & after).sum())
            lost, gained = int(before.sum()) - both, int(after.sum()) - both
            found.append(
                {"reference": models[earlier]["name"], "candidate": models[later]["name"],
                 "lost": lost, "gained": gained, "both_right": both,
                 "both_wrong": len(before) - both - lost - gained}
            )  # fmt: skip
    return found


def _flips(
    models: Sequence[dict[str, Any]], names: Sequence[str], expected: np.ndarray,
    answers: np.ndarray, right: np.ndarray, draw: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    rows = []
    for number, label in enumerate(expected):
        given = [names[at] for at in answers[:, number]]
        texts = list(dict.fromkeys(given))
        words = draw.choice(WORDS, size=int(draw.integers(5, 30)))
        prompt = f"{number} {' '.join(words)}" if number != 7 else HOSTILE
        rows.append(
            {
                "prompt": prompt, "expected": names[label], "texts": texts,
                "answers": [texts.index(text) for text in given],
                "right": [int(one) for one in right[:, number]],
            }
        )  # fmt: skip
    return {"models": [model["name"] for model in models], "rows": rows}
