"""Names of people, by a local token-classification model that the user names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgetune.errors import InputError, reading

#: Labels of people in the schemes of CoNLL, OntoNotes and models of personal data.
_PEOPLE = re.compile(r"(?i)(?:[BIES]-)?(?:PER|PERS|PERSON|NAME|(?:PRIVATE_?)?PERSON_?NAME|"
                     r"FIRST_?NAME|LAST_?NAME|SURNAME|GIVEN_?NAME)")  # fmt: skip
#: Texts that the model reads together, and tokens of each that two windows have in common.
_BATCH, _OVERLAP = 8, 32
_LONGEST = 512


def find_names(texts: Sequence[str], folder: str) -> list[set[str]]:
    """Return the names of people that the model finds in each text.

    Long texts are read in windows that overlap. Names of one letter are left out.

    Raises:
        InputError: the folder has no token-classification model with a label of people.
    """
    import torch

    model, tokenizer, people = _load(folder)
    length = min(_LONGEST, int(getattr(model.config, "max_position_embeddings", _LONGEST)) - 2)
    names: list[set[str]] = [set() for _ in texts]
    for first in range(0, len(texts), _BATCH):
        part = list(texts[first : first + _BATCH])
        encoded = tokenizer(
            part, truncation=True, max_length=length, stride=min(_OVERLAP, length // 4),
            return_overflowing_tokens=True, return_offsets_mapping=True, padding=True,
            return_tensors="pt",
        )  # fmt: skip
        owners = encoded.pop("overflow_to_sample_mapping").tolist()
        offsets = encoded.pop("offset_mapping").tolist()
        with torch.inference_mode():
            best = model(**encoded).logits.argmax(-1).tolist()
        for owner, labels, places in zip(owners, best, offsets, strict=True):
            marked = [tuple(at) for label, at in zip(labels, places, strict=True)
                      if label in people and at[1] > at[0]]  # fmt: skip
            names[first + owner] |= _join(part[owner], marked)
    return names


def _join(text: str, marked: list[tuple[int, int]]) -> set[str]:
    """Return the names that tokens are parts of: neighbours joined, cut words made whole."""
    spans: list[list[int]] = []
    for start, end in marked:
        while start and text[start - 1].isalnum():
            start -= 1
        while end < len(text) and text[end].isalnum():
            end += 1
        if spans and text[spans[-1][1] : start].strip(" .'’-") == "":
            spans[-1][1] = max(end, spans[-1][1])
        else:
            spans.append([start, end])
    found = {text[start:end].strip(" .,'’\"-") for start, end in spans}
    return {name for name in found if len(name) > 1 and not name.isdigit()}


@lru_cache(maxsize=1)
def _load(folder: str) -> tuple[Any, Any, frozenset[int]]:
    """Load the model and its tokenizer, and find its labels of people."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    if not (Path(folder) / "config.json").is_file():
        raise InputError(
            "no model folder", where=folder,
            hint="data.clean.names_model is a folder with a token-classification model",
        )  # fmt: skip
    with reading("cannot load the model of names", folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForTokenClassification.from_pretrained(folder, trust_remote_code=False)
    labels = model.config.id2label or {}
    people = frozenset(int(n) for n, label in labels.items() if _PEOPLE.fullmatch(str(label)))
    if not people or not tokenizer.is_fast:
        fault = "no label of people, such as PER" if not people else "no fast tokenizer"
        raise InputError(f"the model of names has {fault}", where=folder)
    return model.eval(), tokenizer, people
