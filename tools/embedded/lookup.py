"""How far a table gets on the device rows without any model: the bar that a model must clear.

python -m tools.embedded.lookup
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter

import numpy as np

from edgetune.embedded import locate


def read_rows(split: str) -> list[dict[str, str]]:
    """The rows of one embedded split."""
    with locate(f"devices/{split}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _count_trigrams(text: str) -> Counter[str]:
    padded = f" {text.lower()} "
    return Counter(padded[i : i + 3] for i in range(len(padded) - 2))


def score_exact(train: list[dict[str, str]], test: list[dict[str, str]]) -> float:
    """Share of test rows answered rightly by a table from prompt to completion."""
    table = {row["prompt"].lower(): row["completion"] for row in train}
    return sum(table.get(r["prompt"].lower()) == r["completion"] for r in test) / len(test)


def score_nearest(train: list[dict[str, str]], test: list[dict[str, str]]) -> float:
    """Share answered rightly by copying the answer of the nearest training prompt.

    Nearest by the cosine of TF-IDF vectors over character 3-grams (raw counts times
    ln((1 + n) / (1 + df)) + 1).
    """
    counts = [_count_trigrams(row["prompt"]) for row in train]
    seen = Counter(gram for count in counts for gram in count)
    idf = {gram: math.log((1 + len(train)) / (1 + df)) + 1 for gram, df in seen.items()}
    column = {gram: i for i, gram in enumerate(idf)}
    weights = np.zeros((len(column), len(train)), dtype=np.float32)
    for i, count in enumerate(counts):
        norm = math.sqrt(sum((n * idf[gram]) ** 2 for gram, n in count.items()))
        for gram, n in count.items():
            weights[column[gram], i] = n * idf[gram] / norm
    right = 0
    for row in test:
        grams = [(g, n) for g, n in _count_trigrams(row["prompt"]).items() if g in column]
        query = np.array([n * idf[gram] for gram, n in grams], dtype=np.float32)
        best = int(np.argmax(query @ weights[[column[gram] for gram, _ in grams]]))
        right += train[best]["completion"] == row["completion"]
    return right / len(test)


def main() -> None:
    """Command line: one JSON line with both scores."""
    train, test = read_rows("train"), read_rows("test")
    scores = {"exact": score_exact(train, test), "nearest": score_nearest(train, test)}
    sys.stdout.write(json.dumps(scores) + "\n")


if __name__ == "__main__":
    main()
