"""Two models without a common tokenizer: what each needs to write the same text."""

from __future__ import annotations

import math

import numpy as np

from edgetune.compare import probes
from edgetune.compare.checks import Question
from edgetune.compare.comparison import Check
from edgetune.compare.loaded import Side, attempt
from edgetune.measure.quality import log_softmax
from edgetune.measure.statistics import ratio_of_sums

WORSE = 1.05  # bits per byte of the second over the first that fails it


def compare_texts(a: Side, b: Side, question: Question) -> Check:
    """Compare bits per byte: -log2 of a text's probability over its UTF-8 bytes.

    Perplexities a token cannot be compared across tokenizers; bits a byte can. The first token of a
    text has nothing before it and is counted by neither.
    """
    texts = [row.text or row.answer for row in question.rows] or list(probes.PROSE)
    sums: dict[str, list[float]] = {"a": [], "b": []}
    sizes: list[int] = []
    left = question.tokens
    for text in texts:
        coded = [attempt(side.tokenize, text)[0] for side in (a, b)]
        if left < 2 or any(not ids or len(ids) < 2 for ids in coded):
            continue
        for name, side, ids in zip(("a", "b"), (a, b), coded, strict=True):
            scores = log_softmax(side.logits(ids[:-1]))
            at = np.array(ids[1:])[:, None]
            sums[name].append(-float(np.take_along_axis(scores, at, axis=1).sum()) / math.log(2))
        sizes.append(len(text.encode()))
        left -= len(coded[0])
    if not sizes:
        return Check("weights", None, "no text that both can tokenize", {})
    each = {name: sum(values) / sum(sizes) for name, values in sums.items()}
    difference = ratio_of_sums(np.subtract(sums["b"], sums["a"]).tolist(), sizes)
    figures = {
        "bits_per_byte_a": each["a"], "bits_per_byte_b": each["b"], "texts": len(sizes),
        "bytes": sum(sizes), "difference": difference.value, "difference_ci95": difference.ci95,
    }  # fmt: skip
    said = "no common tokenizer, so texts are compared: "
    said += f"{each['a']:.3f} and {each['b']:.3f} bits per byte over {sum(sizes):,} bytes"
    return Check("weights", each["b"] <= WORSE * each["a"], said, figures)
