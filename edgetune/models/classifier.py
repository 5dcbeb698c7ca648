"""Sequence classifiers in Hugging Face folders: described by their configuration, and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.errors import InputError, nearest
from edgetune.models.checkpoint import check_model_folder

HEAD = "ForSequenceClassification"
_MULTI_LABEL = "multi_label_classification"
_NO_ADAPTER = {"subfolder": "no adapter"}  # as in :mod:`edgetune.models.load`


@dataclass(frozen=True)
class Classifier:
    """A sequence classifier and the label of it that counts.

    Attributes:
        folder: with configuration, tokenizer and safetensors.
        label: name of the label.
        index: its number among the model's outputs.
        function: what makes probabilities of logits: ``softmax``, or ``sigmoid`` where labels do
            not exclude each other or there is one only.
    """

    folder: Path
    label: str
    index: int
    function: str


def describe_classifier(folder: Path, label: str | int, where: str) -> Classifier:
    """Read what a folder says of its labels, without loading the model.

    The function is chosen as transformers' text-classification pipeline chooses it.

    Args:
        folder: of the model.
        label: name in ``id2label``, or number.
        where: key of the recipe, for errors.

    Raises:
        InputError: the folder is not whole or holds no sequence classifier, it needs code of its
            own, or it has no such label.
    """
    config = check_model_folder(folder)
    names = [str(one) for one in config.get("architectures") or ()]
    if not any(name.endswith(HEAD) for name in names):
        raise InputError(
            f"no sequence classifier: its architecture is {', '.join(names) or 'not named'}",
            where=f"{where}.model: {folder}",
            hint=f"name a model whose config.json has an architecture that ends with {HEAD}",
        )
    if f"AutoModel{HEAD}" in (config.get("auto_map") or {}):
        raise InputError(
            "this classifier needs code of its own, which is not run",
            where=f"{where}.model: {folder}",
        )
    if config.get("problem_type") == "regression":
        raise InputError(
            "this model gives a number without bounds (problem_type: regression), no probability",
            where=f"{where}.model: {folder}", hint="name a model that classifies",
        )  # fmt: skip
    labels = _read_labels(config)
    index = _find_label(labels, label, f"{where}.label")
    multiple = config.get("problem_type") == _MULTI_LABEL or len(labels) == 1
    return Classifier(folder, labels[index], index, "sigmoid" if multiple else "softmax")


def _read_labels(config: Mapping[str, Any]) -> list[str]:
    """Return the labels' names by number; without any there are two, as transformers has it."""
    given = config.get("id2label")
    if isinstance(given, Mapping) and given:
        try:
            return [str(name) for _, name in sorted((int(key), one) for key, one in given.items())]
        except ValueError:
            pass
    return [f"LABEL_{number}" for number in range(int(config.get("num_labels") or 2))]


def _find_label(labels: list[str], label: str | int, where: str) -> int:
    shown = ", ".join(f"{number}: {name}" for number, name in enumerate(labels[:50]))
    if isinstance(label, int):
        if 0 <= label < len(labels):
            return label
        raise InputError(
            f"the classifier has no label {label}", where=where, hint=f"it has {shown}"
        )
    if label in labels:
        return labels.index(label)
    raise InputError(
        f"the classifier has no label '{label}'{nearest(label, labels)}",
        where=where, hint=f"it has {shown}",
    )  # fmt: skip


def load_classifier(folder: Path, device: str = "cpu") -> Any:
    """Load a sequence classifier in float32 and eval mode, offline and without code of its own.

    Raises:
        InputError: transformers cannot load it, or tensors are missing (the head's would be
            random).
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    try:
        answer: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True,
            local_files_only=True, adapter_kwargs=_NO_ADAPTER, output_loading_info=True,
        )  # fmt: skip
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise InputError(f"cannot load the classifier: {error}", where=str(folder)) from error
    model, loaded = answer
    absent = sorted(loaded["missing_keys"])
    if absent:
        raise InputError(
            f"{len(absent)} tensors of the classifier are in none of its files, first "
            f"'{absent[0]}'",
            where=str(folder), hint="copy the model again, with its head",
        )  # fmt: skip
    return model.to(device).eval()


def find_longest(model: Any, tokenizer: Any) -> int:
    """Return how many tokens a classifier takes, special ones included.

    RoBERTa's kin counts positions from the number of its padding token on, so that it takes
    fewer than its configuration says.
    """
    from torch.nn import Embedding

    limits = [int(tokenizer.model_max_length)]
    longest = getattr(model.config, "max_position_embeddings", None)
    limits += [int(longest)] if longest else []
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, Embedding):
            padding = module.padding_idx
            limits.append(module.num_embeddings - (0 if padding is None else padding + 1))
    return min(limits)
