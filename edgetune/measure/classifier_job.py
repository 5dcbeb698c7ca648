"""Classify texts in this process; a job of these has the key ``classifier``."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from edgetune.errors import InputError
from edgetune.models.classifier import find_longest, load_classifier
from edgetune.models.tokenizer_files import load_tokenizer

BATCH = 32  # texts


def run_classifier(job: dict[str, Any]) -> dict[str, Any]:
    """Return ``probabilities`` of the label for each text, and ``cut``: whether it was truncated.

    Texts are sorted by length and padded in batches; one by one where the model knows no padding.
    A text without a token has the probability 0.

    Args:
        job: ``classifier`` (folder), ``index`` of the label, ``function``, ``texts`` (a file with a
            list), ``threads`` and ``device``.

    Raises:
        InputError: the model cannot be loaded, or gives numbers that are not finite.
    """
    import torch

    torch.set_num_threads(job["threads"])
    folder = Path(job["classifier"])
    texts = json.loads(Path(job["texts"]).read_text(encoding="utf-8"))
    tokenizer, model = load_tokenizer(folder), load_classifier(folder, job["device"])
    longest = find_longest(model, tokenizer)
    whole = [len(ids) for ids in tokenizer(texts)["input_ids"]] if texts else []
    pads = model.config.pad_token_id is not None
    if pads:
        tokenizer.pad_token_id = model.config.pad_token_id
    takes = inspect.signature(model.forward).parameters
    order = sorted((n for n in range(len(texts)) if whole[n]), key=lambda n: (whole[n], n))
    size = BATCH if pads else 1
    found = [0.0] * len(texts)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = tokenizer(
            [texts[number] for number in chosen], truncation=True, max_length=longest,
            padding=len(chosen) > 1, return_tensors="pt",
        )  # fmt: skip
        given = {name: value.to(job["device"]) for name, value in batch.items() if name in takes}
        with torch.inference_mode():
            logits_BL = model(**given).logits.double()
        probabilities_BL = getattr(torch, job["function"])(
            logits_BL, **({"dim": -1} if job["function"] == "softmax" else {})
        )
        for number, value in zip(chosen, probabilities_BL[:, job["index"]].tolist(), strict=True):
            found[number] = float(value)
    if not all(0 <= value <= 1 for value in found):
        raise InputError(
            "the classifier gives numbers that are no probabilities", where=str(folder)
        )
    return {"probabilities": found, "cut": [length > longest for length in whole]}
