"""Bits per byte: compare two models without a common tokenizer on the same texts."""

from __future__ import annotations

import numpy as np

from edgetune.compare import probes
from edgetune.compare.checks import Question
from edgetune.compare.comparison import Check
from edgetune.compare.loaded import LoadedModel, attempt
from edgetune.measure.reference import log_softmax
from edgetune.measure.statistics import bits_per_byte

WORSE = 1.05  # ratio of bits per byte, candidate over reference, above which the check fails


def compare_texts(reference: LoadedModel, candidate: LoadedModel, question: Question) -> Check:
    """Compare bits per byte: -log2 of a text's probability over its UTF-8 bytes.

    Perplexity per token cannot be compared across tokenizers; bits per byte can. The first
    token of a text has nothing before it and is counted by neither.
    """
    texts = [row.text or row.answer for row in question.plain_rows] or list(probes.PROSE)
    sums: dict[str, list[float]] = {"reference": [], "candidate": []}
    sizes: list[int] = []
    left = question.tokens
    for text in texts:
        coded = [attempt(model.tokenize, text)[0] for model in (reference, candidate)]
        if left < 2 or any(not ids or len(ids) < 2 for ids in coded):
            continue
        for name, model, ids in zip(
            ("reference", "candidate"), (reference, candidate), coded, strict=True
        ):
            scores = log_softmax(model.logits(ids[:-1]))
            at = np.array(ids[1:])[:, None]
            sums[name].append(-float(np.take_along_axis(scores, at, axis=1).sum()))
        sizes.append(len(text.encode()))
        left -= len(coded[0])
    if not sizes:
        return Check("weights", None, "no text that both can tokenize", {})
    each = {name: bits_per_byte(values, sizes).value for name, values in sums.items()}
    difference = bits_per_byte(np.subtract(sums["candidate"], sums["reference"]).tolist(), sizes)
    figures = {
        "bits_per_byte_reference": each["reference"],
        "bits_per_byte_candidate": each["candidate"], "texts": len(sizes),
        "bytes": sum(sizes), "difference": difference.value, "difference_ci95": difference.ci95,
    }  # fmt: skip
    summary = "no common tokenizer, so texts are compared: "
    summary += f"{each['reference']:.3f} and {each['candidate']:.3f} bits per byte "
    summary += f"over {sum(sizes):,} bytes"
    return Check("weights", each["candidate"] <= WORSE * each["reference"], summary, figures)
