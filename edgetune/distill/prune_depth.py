"""Depth pruning: remove the least important decoder layers (lowest KL when removed)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from edgetune.data.encoded import Encoded
from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.models.checkpoint import SINGLE, Checkpoint, copy_description
from edgetune.models.head import head_only_at
from edgetune.models.layers import find_layers
from edgetune.models.resolve import read_json

# `model.layers.3.mlp…` (Llama and its kin), `transformer.h.3.mlp…` (GPT-2)
_LAYER = re.compile(r"^(?P<head>(?:.*\.)?(?:layers|h)\.)(?P<number>\d+)(?P<tail>\..+)$")
_DEPTH_KEYS = ("num_hidden_layers", "n_layer")


@torch.no_grad()
def choose_layers(
    teacher: Any, rows: Sequence[Encoded], keep: int
) -> tuple[list[int], list[tuple[int, float]]]:
    """Choose the layers a student keeps: the least important layer is removed, one at a time.

    A layer's importance is the KL between the teacher's distributions with all layers and with
    those that are left without it, at trained positions. (Blocks removed one by one: Song et al.
    2024, arXiv 2402.09025, section 3.2. The cosine of a layer's input and output, arXiv 2403.03853,
    is cheaper but cannot tell a small change that matters, such as copying, from one that does
    not.)

    Args:
        teacher: in eval mode.
        rows: a sample of the task; one batch.
        keep: how many layers stay.

    Returns:
        The layers that stay, in order, and the removed ones with the KL (nats) after each removal.

    Raises:
        InputError: the student would be no smaller than the teacher.
    """
    layers = find_layers(teacher)
    if keep >= len(layers):
        raise InputError(
            f"the base has {len(layers)} layers; a student of {keep} is no smaller",
            where="distill.student.layers",
        )
    score = _make_score(teacher, rows)
    kept, removed = list(range(len(layers))), []
    while len(kept) > keep:
        harms = []
        for candidate in kept:
            gone = {*range(len(layers))} - {*kept} | {candidate}
            with _skip_layers([layers[number] for number in gone]):
                harms.append((score(), candidate))
        harm, least = min(harms)
        kept.remove(least)
        removed.append((least, harm))
    return kept, removed


def _make_score(model: Any, rows: Sequence[Encoded]) -> Callable[[], float]:
    """Return a function that gives the KL from the whole model to the pruned model."""
    device = next(model.parameters()).device
    longest = max(len(row.ids) for row in rows)
    ids_BT = torch.zeros((len(rows), longest), dtype=torch.long)
    mask_BT, trained_BT = torch.zeros_like(ids_BT), torch.zeros_like(ids_BT, dtype=torch.bool)
    for line, row in enumerate(rows):
        ids_BT[line, : len(row.ids)] = torch.tensor(row.ids)
        mask_BT[line, : len(row.ids)] = 1
        trained_BT[line, : len(row.ids) - 1] = torch.tensor(row.trained[1:], dtype=torch.bool)

    def log_probabilities() -> torch.Tensor:
        inputs = {"input_ids": ids_BT.to(device), "attention_mask": mask_BT.to(device)}
        with head_only_at(model, trained_BT.to(device)):
            logits_PV = model(**inputs, use_cache=False).logits
        probs_PV: torch.Tensor = logits_PV.float().log_softmax(-1)
        return probs_PV

    whole_PV = log_probabilities()

    def score() -> float:
        left_PV = log_probabilities()
        return float((whole_PV.exp() * (whole_PV - left_PV)).sum(-1).mean())

    return score


@contextmanager
def _skip_layers(layers: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Make ``layers`` hand their input on unchanged."""

    def skip(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        states = args[0] if args else kwargs["hidden_states"]
        return (states, *output[1:]) if isinstance(output, tuple) else states

    hooks = [layer.register_forward_hook(skip, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def cut_depth(base: Path, layers: Sequence[int], out: Path) -> None:
    """Write ``base`` with only ``layers``, renumbered, as a Hugging Face folder.

    Weights keep their dtype and bytes; shards are read one tensor at a time.
    """
    out.mkdir(parents=True, exist_ok=True)
    position = {old: new for new, old in enumerate(layers)}
    tensors: dict[str, torch.Tensor] = {}
    checkpoint = Checkpoint(base)
    for name in checkpoint.names():
        match = _LAYER.match(name)
        if match is None:
            tensors[name] = checkpoint.read(name)
        elif int(match["number"]) in position:
            number = position[int(match["number"])]
            tensors[f"{match['head']}{number}{match['tail']}"] = checkpoint.read(name)
    temporary = out / "model.tmp"
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(out / SINGLE)
    copy_description(base, out)
    config = cut_config(read_json(base / "config.json", ""), layers)
    write_atomic(out / "config.json", json.dumps(config, indent=2))


def cut_config(config: dict[str, Any], layers: Sequence[int]) -> dict[str, Any]:
    """Return the configuration for the kept layers, lists of one entry a layer included."""
    depth = next((config[key] for key in _DEPTH_KEYS if key in config), None)
    cut = dict(config)
    for key, value in config.items():
        if key in _DEPTH_KEYS:
            cut[key] = len(layers)
        elif isinstance(value, list) and len(value) == depth and key.endswith("layer_types"):
            cut[key] = [value[i] for i in layers]
    return cut


def first_vocabulary_difference(teacher: Any, student: Any) -> str | None:
    """Say where two tokenizers' vocabularies differ first, or nothing if they are the same."""
    ours, theirs = teacher.get_vocab(), student.get_vocab()
    if ours == theirs:
        return None
    different = next(
        (token for token in {**ours, **theirs} if ours.get(token) != theirs.get(token)), ""
    )
    return (
        f"{different!r} is {ours.get(different)} for the teacher, {theirs.get(different)} for the "
        "student"
    )
