"""What transformers makes of a model folder's configuration, without its weights.

Which layers are linear, which of them NF4 holds, where the embedding and the head are and whether
they share a weight: read from the model's own code rather than guessed from tensor names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert

from edgetune.errors import InputError
from edgetune.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class Skeleton:
    """Names are those of the model's modules.

    Attributes:
        transposed: linear layers whose weight is [in, out] (GPT-2's ``Conv1D``).
        nf4: linear layers that are put into 4 bits in QLoRA: all but the head.
        embedding: of the input.
        head: what makes logits.
        tied: the head has the embedding's weight.
        biased: modules that have a bias.
        modules: all of them.
    """

    transposed: frozenset[str]
    nf4: frozenset[str]
    embedding: str
    head: str
    tied: bool
    biased: frozenset[str]
    modules: frozenset[str]


def read_skeleton(folder: Path) -> Skeleton:
    """Build the model of a folder on the meta device: no weight is read or made.

    Raises:
        InputError: transformers knows no causal language model of this configuration.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"cannot build the model: {error}", where=str(folder)) from error
    model = build_on_meta(config, str(folder))
    modules = dict(model.named_modules())
    names = {id(module): name for name, module in modules.items()}
    return Skeleton(
        frozenset(name for name, one in modules.items() if isinstance(one, Conv1D)),
        frozenset(find_nf4_layers(model)),
        names[id(model.get_input_embeddings())],
        names.get(id(model.get_output_embeddings()), ""),
        bool(model.config.get_text_config().tie_word_embeddings),
        frozenset(name for name, one in modules.items() if getattr(one, "bias", None) is not None),
        frozenset(modules),
    )


def build_on_meta(config: Any, where: str, dtype: torch.dtype | None = None) -> Any:
    """Return the model of a configuration on the meta device: shapes without memory.

    Args:
        config: as transformers reads it.
        where: what an error names.
        dtype: of the weights; the configuration's where none is given.

    Raises:
        InputError: transformers knows no causal language model of this configuration.
    """
    named = {} if dtype is None else {"dtype": dtype}
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False, **named)
    except (ValueError, RuntimeError, KeyError, OSError, AttributeError) as error:
        raise InputError(f"cannot build the model: {error}", where=where) from error


def find_nf4_layers(model: Any) -> set[str]:
    """Return the names of the linear layers that QLoRA puts into 4 bits: all but the head."""
    kept = get_keys_to_not_convert(model)
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and not any(name == one or name.startswith(f"{one}.") for one in kept)
    }


def name_in_model(checkpoint: Checkpoint, skeleton: Skeleton) -> dict[str, str]:
    """Return disk name to model name: files of some models leave out the model's prefix."""
    prefix = skeleton.embedding.partition(".")[0] + "."
    names = {}
    for name in checkpoint.names():
        module = name.rpartition(".")[0]
        with_prefix = module not in skeleton.modules and f"{prefix}{module}" in skeleton.modules
        names[name] = f"{prefix}{name}" if with_prefix else name
    return names
