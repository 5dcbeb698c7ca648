"""How many weights a configuration has, of which kind; the rows' lengths in tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers.pytorch_utils import Conv1D

from edgetune.data.build_encoder import make_encoder
from edgetune.data.dataset.sample import sample_rows
from edgetune.data.encode_rows import encode_rows
from edgetune.data.pairs import split_pair
from edgetune.log import Log
from edgetune.models.skeleton import build_on_meta, find_nf4_layers
from edgetune.recipe import DataSection
from edgetune.train.objectives.prompts import Prompts

SAMPLE_ROWS = 500


@dataclass(frozen=True)
class Shape:
    """Numbers of weights.

    Attributes:
        linear: of the layers that QLoRA puts into NF4.
        rest: of embedding, head and normalisations; a tied head counts once.
        lora: of a LoRA adapter of rank 1 on all these layers: Σ (in + out).
        head: of the head's product, vocabulary × width.
        layer: of a decoder layer, on average.
        vocabulary: rows of the embedding.
        largest: of the largest tensor.
        inputs: of the linear layer that has most.
    """

    linear: int
    rest: int
    lora: int
    head: int
    layer: int
    vocabulary: int
    largest: int
    inputs: int

    @property
    def total(self) -> int:
        """All weights."""
        return self.linear + self.rest


@dataclass(frozen=True)
class Tokens:
    """The rows of a recipe, measured on a sample.

    Attributes:
        rows: to train on.
        validation_rows: to validate on.
        mean: tokens of a row.
        longest: of the sample.
        trained: fraction of the tokens that have a loss.
    """

    rows: int
    validation_rows: int
    mean: float
    longest: int
    trained: float


def read_shape(config: Any) -> Shape:
    """Count the weights of a configuration: the model is built without memory.

    Raises:
        InputError: transformers cannot build it.
    """
    model = build_on_meta(config, config.model_type)
    layers = [model.get_submodule(name) for name in sorted(find_nf4_layers(model))]
    weights = [layer.weight for layer in layers]
    total = sum(parameter.numel() for parameter in model.parameters())
    linear = sum(weight.numel() for weight in weights)
    embedding = model.get_input_embeddings().weight
    depth = int(config.get_text_config().num_hidden_layers)
    return Shape(
        linear=linear,
        rest=total - linear,
        lora=sum(sum(weight.shape) for weight in weights),
        head=embedding.numel(),
        layer=linear // depth,
        vocabulary=embedding.shape[0],
        largest=max(parameter.numel() for parameter in model.parameters()),
        inputs=max(layer.weight.shape[0 if isinstance(layer, Conv1D) else 1] for layer in layers),
    )


def measure_tokens(
    data: DataSection, tokenizer: Any, seed: int, objective: str = "sft", sampled: int = 0
) -> Tokens:
    """Count a recipe's rows, about where they are many, and the tokens of a sample of them.

    Args:
        data: the rows.
        tokenizer: of the model.
        seed: of the split.
        objective: what rows are for, as :data:`edgetune.data.shapes.SHAPES` calls it.
        sampled: tokens of an answer that a training samples in place of the rows' own.

    Raises:
        InputError: rows that cannot be read.
    """
    sample = sample_rows(data, tokenizer, seed, SAMPLE_ROWS, objective)
    encoder = make_encoder(tokenizer, data, None)
    if sampled:
        asked = [len(ids) for ids in Prompts.of(sample.rows, encoder).ids]
        mean = sampled + sum(asked) / len(asked)
        return Tokens(sample.train, sample.validation, mean, sampled + max(asked), sampled / mean)
    pairs = objective in ("dpo", "reward")
    rows = [one for row in sample.rows for one in (split_pair(row) if pairs else [row])]
    encoded = encode_rows(encoder, rows, Log(quiet=True), "train", "skip").encoded
    lengths = [len(row.ids) for row in encoded]
    return Tokens(
        rows=sample.train,
        validation_rows=sample.validation,
        mean=sum(lengths) / len(lengths),
        longest=max(lengths),
        trained=sum(sum(row.trained) for row in encoded) / sum(lengths),
    )
