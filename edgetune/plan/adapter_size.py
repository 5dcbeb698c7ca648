"""How many parameters an adapter trains, without a weight of its model."""

from __future__ import annotations

from typing import Any

import torch

from edgetune.models.adapters import add_adapter
from edgetune.models.skeleton import build_on_meta
from edgetune.plan.shape import Shape
from edgetune.recipe import Training


def count_adapter(config: Any, section: Training, shape: Shape) -> int:
    """Return how many weights an adapter trains; a uniform one is counted without a model."""
    own = (section.rank_pattern, section.modules_to_save, section.dora)
    if any(own) or section.target_modules != "all-linear":
        return count_trainable(config, section)
    return section.uniform_rank * shape.lora


def count_trainable(config: Any, section: Training) -> int:
    """Return how many parameters an adapter of these settings trains.

    Args:
        config: of transformers.
        section: settings of the adapter.

    Raises:
        InputError: a module that the model does not have.
    """
    with torch.device("meta"):
        start = section.model_copy(update={"init": "default"})
        model: Any = add_adapter(build_on_meta(config, config.model_type), start, 0)
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


def fit_any_layer(section: Training) -> Training:
    """Return settings that fit a model of fewer layers: names' last parts, no patterns."""

    def last(names: list[str]) -> list[str]:
        return sorted({name.rpartition(".")[2] for name in names})

    targets = section.target_modules
    return section.model_copy(
        update={
            "target_modules": targets if targets == "all-linear" else last(targets),
            "modules_to_save": last(section.modules_to_save),
            "rank_pattern": {},
            "alpha_pattern": {},
            "init": "default",  # no values to decompose
        }
    )
