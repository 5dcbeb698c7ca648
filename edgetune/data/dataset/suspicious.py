"""Suspicious labels of train rows, listed beside the dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgetune.data.clean import find_suspects
from edgetune.data.clean.suspects import MOST_ROWS
from edgetune.data.dataset.columns import Columns
from edgetune.data.dataset.shard import Shard
from edgetune.data.dataset.similar import read_rows
from edgetune.data.dataset.texts import prompt_text
from edgetune.data.split import sample_numbers

FILE = "suspicious_labels.jsonl"


def list_suspicious(
    columns: Columns, shards: Sequence[Shard], train: np.ndarray, seed: int, out: Path
) -> dict[str, float | int]:
    """Write the train rows whose label a classifier of their texts disagrees with.

    Of more than 50,000 rows so many are looked at, chosen by the seed.

    Returns:
        ``rows`` that are listed, rows ``looked_at``, and the classifier's ``agreement``.
    """
    chosen = np.unique(train)
    chosen = chosen[sample_numbers(len(chosen), MOST_ROWS, seed)]
    texts, answers = [], []
    for row in read_rows(chosen, columns, shards):
        texts.append(prompt_text(row))
        answers.append(row.answer)
    names, labels = np.unique(answers, return_inverse=True)
    found = find_suspects(texts, labels, seed)
    rows = read_rows(chosen[found.rows], columns, shards)
    out.mkdir(parents=True, exist_ok=True)
    with (out / FILE).open("w", encoding="utf-8") as file:
        for row, label, margin in zip(rows, found.predicted, found.margins, strict=True):
            line = {
                "where": row.where, "text": prompt_text(row), "label": row.answer,
                "predicted": str(names[label]), "margin": round(float(margin), 4),
            }  # fmt: skip
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return {
        "rows": len(found.rows),
        "looked_at": found.looked_at,
        "agreement": round(found.agreement, 4),
    }
