"""What a model folder says of its sizes, from ``config.json`` and headers: no weights, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.models.checkpoint import Checkpoint
from edgetune.models.resolve import read_json

# Families' own names for one size, as transformers' attribute maps have them.
_NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "context": ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len"),
}
_STRETCHED = ("linear", "dynamic", "yarn")  # whose config gives the length before stretching


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Attributes:
        layers: decoder layers; none where the configuration does not say.
        context: positions it was made for, rotary scaling included; none where it has no limit.
        tensors: name to shape, by the headers of its weights.
        tied: the head is the embedding.
        packed: the weights are quantized on disk, so that shapes are of packed bytes.
        config: the text model's configuration.
    """

    layers: int | None
    context: int | None
    tensors: Mapping[str, tuple[int, ...]]
    tied: bool
    packed: bool
    config: Mapping[str, Any]


def read_shape(folder: Path) -> Shape:
    """Return the sizes of the model in ``folder``.

    Raises:
        InputError: a configuration or header that cannot be read.
    """
    whole = read_json(folder / "config.json", "a model folder has a config.json")
    nested = whole.get("text_config")
    config = nested if isinstance(nested, dict) else whole
    layers = _size(config, "layers")
    tied = bool(config.get("tie_word_embeddings", whole.get("tie_word_embeddings", False)))
    packed = "quantization_config" in whole
    tensors = {name: header.shape for name, header in Checkpoint(folder).headers.items()}
    return Shape(layers, context_of(config), tensors, tied, packed, config)


def _size(config: Mapping[str, Any], what: str) -> int | None:
    found = (config.get(name) for name in _NAMES[what])
    return next((one for one in found if isinstance(one, int) and one > 0), None)


def context_of(config: Mapping[str, Any]) -> int | None:
    """Return how many positions a configuration is for, rotary scaling included, or none."""
    length = _size(config, "context")
    scaling = config.get("rope_parameters") or config.get("rope_scaling")
    if length is None or not isinstance(scaling, dict):
        return length
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
    if kind not in _STRETCHED or not isinstance(factor, int | float):
        return length
    before = scaling.get("original_max_position_embeddings")
    return max(length, int(factor * (before if isinstance(before, int) else length)))
