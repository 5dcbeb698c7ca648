"""Labels as continuations of prompts, so that a model's likelihood of each can be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgetune.data.encode import Encoder
from edgetune.data.rows import Row
from edgetune.measure.subject import Workload
from edgetune.recipe import BenchSection

MOST = 500  # different answers: rows with more have no labels


def add_labels(workload: Workload, rows: Sequence[Row], section: BenchSection) -> Workload:
    """Return the workload with the tokens of every label that it expects, where they are wanted.

    Args:
        workload: with its questions.
        rows: those that were chosen to be asked, in that order.
        section: says whether likelihoods are wanted, and of how many rows.
    """
    texts = sorted({text.strip() for text in workload.expected})
    if not section.label_likelihood or not 1 < len(texts) <= MOST:
        return workload
    labels = {text: encode_label(workload.encoder, rows[0], text) for text in texts}
    if not all(labels.values()):
        return workload
    return replace(workload, labels=labels, labelled=min(section.label_rows, len(rows)))


def encode_label(encoder: Encoder, row: Row, label: str) -> list[int]:
    """Return the tokens of a label as the answer to a row, with the token that ends an answer."""
    answer = replace(row.messages[-1], content=label, more="")
    encoded = encoder.encode(replace(row, messages=(*row.messages[:-1], answer)))
    start = len(encoder.prompt(row))
    return [
        token
        for token, trained in zip(encoded.ids[start:], encoded.trained[start:], strict=True)
        if trained
    ]
