"""The precision that weights are trained in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def keep_trainable_float32(model: Any) -> None:
    """Keep trainable parameters in float32, where small updates are not rounded away."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)


def is_fresh(model: Any) -> bool:
    """Return whether all of a model's adapters are new: their second factors are zero."""
    factors = [one for name, one in model.named_parameters() if ".lora_B." in name]
    return all(not one.any() for one in factors)


@contextmanager
def unchanged_weights(model: Any) -> Iterator[None]:
    """Give a model's trained weights back their values when the context is left, in float32.

    TRL casts adapters over 4-bit weights to bfloat16 as it is built. Cast back, those of a step
    before would be rounded, and a resumed run, which loads float32, would go on differently. For a
    reference TRL adds a second adapter, ``ref``; here the reference is two numbers a row.
    """
    kept = {name: one.data for name, one in model.named_parameters() if one.requires_grad}
    yield
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")
    for name, parameter in model.named_parameters():
        if name in kept:
            parameter.data = kept[name].to(torch.float32)
            parameter.requires_grad_(True)
