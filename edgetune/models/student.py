"""Where a student's weights start: the base without its least influential layers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from edgetune.artifact import write_atomic
from edgetune.errors import InputError
from edgetune.models.source import read_json

# `model.layers.3.mlp…` (Llama and its kin), `transformer.h.3.mlp…` (GPT-2)
_LAYER = re.compile(r"^(?P<head>(?:.*\.)?(?:layers|h)\.)(?P<number>\d+)(?P<tail>\..+)$")
_DEPTH_KEYS = ("num_hidden_layers", "n_layer")
_TEXT_FILES = (".json", ".jinja", ".model", ".txt")


@torch.no_grad()
def measure_influence(model: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    """Return each layer's block influence: 1 − E[cos(input, output)] over tokens.

    Men et al. 2024, arXiv 2403.03853, section 3.1. A layer that hardly turns its input is missed
    least.

    Args:
        model: in eval mode.
        rows: token ids that stand for the task.
    """
    device = next(model.parameters()).device
    total: list[float] = []
    tokens = 0
    for ids in rows:
        states = model(
            input_ids=torch.tensor([list(ids)], device=device),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        turned = [
            (1 - torch.cosine_similarity(a.float(), b.float(), dim=-1)).sum().item()
            for a, b in pairwise(states)
        ]
        total = [x + y for x, y in zip(total, turned, strict=True)] if total else turned
        tokens += len(ids)
    return [value / max(tokens, 1) for value in total]


def choose_layers(influence: Sequence[float], keep: int) -> list[int]:
    """Return the ``keep`` most influential layers, in order; the first layer always stays.

    Raises:
        InputError: more layers are asked for than there are.
    """
    if keep > len(influence):
        raise InputError(
            f"the base has {len(influence)} layers, {keep} cannot be kept",
            where="distill.student.layers",
        )
    ranked = sorted(range(1, len(influence)), key=lambda i: -influence[i])
    return sorted([0, *ranked[: keep - 1]])


def cut_depth(base: Path, layers: Sequence[int], out: Path) -> None:
    """Write ``base`` with only ``layers``, renumbered, as a Hugging Face folder.

    Weights keep their dtype and bytes; shards are read one tensor at a time.
    """
    out.mkdir(parents=True, exist_ok=True)
    position = {old: new for new, old in enumerate(layers)}
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(base.glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no dict
                match = _LAYER.match(name)
                if match is None:
                    tensors[name] = file.get_tensor(name)
                elif int(match["number"]) in position:
                    number = position[int(match["number"])]
                    tensors[f"{match['head']}{number}{match['tail']}"] = file.get_tensor(name)
    temporary = out / "model.tmp"
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(out / "model.safetensors")
    for path in base.iterdir():
        if path.is_file() and path.suffix in _TEXT_FILES and "index" not in path.name:
            shutil.copy(path, out / path.name)
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


def check_same_tokenizer(teacher: Any, student: Any, where: str) -> None:
    """Refuse a student whose tokens mean something else than the teacher's.

    Raises:
        InputError: the vocabularies differ; names a token that does.
    """
    ours, theirs = teacher.get_vocab(), student.get_vocab()
    if ours == theirs:
        return
    different = next(
        (token for token in {**ours, **theirs} if ours.get(token) != theirs.get(token)), ""
    )
    raise InputError(
        f"the student's tokenizer differs from the teacher's: {different!r} is "
        f"{ours.get(different)} for the teacher, {theirs.get(different)} for the student",
        where=where,
        hint="choose a student with the same tokenizer",
    )
