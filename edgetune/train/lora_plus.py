"""LoRA+ (Hayou et al. 2024, arXiv 2402.12354): B learns at a multiple of A's rate."""

from __future__ import annotations

from typing import Any

import torch


def raise_rate_of_b(trainer: Any, ratio: float) -> None:
    """Let the optimizer that ``trainer`` is going to make train LoRA's B ``ratio`` times as fast.

    Whatever optimizer the recipe names is kept, with its weight decay and its schedule (section
    3.3: the ratio is all that differs).
    """
    make = trainer.create_optimizer

    def make_split(*arguments: Any, **named: Any) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = make(*arguments, **named)
        split_groups(optimizer, trainer.model, ratio)
        return optimizer

    trainer.create_optimizer = make_split


def split_groups(optimizer: torch.optim.Optimizer, model: torch.nn.Module, ratio: float) -> None:
    """Put each group's B factors into a group of their own, with ``ratio`` times its rate."""
    factors = {
        id(parameter)
        for name, parameter in model.named_parameters()
        if ".lora_B." in name or ".lora_embedding_B." in name
    }
    for group in list(optimizer.param_groups):
        chosen = [one for one in group["params"] if id(one) in factors]
        if chosen:
            group["params"] = [one for one in group["params"] if id(one) not in factors]
            optimizer.add_param_group({**group, "params": chosen, "lr": ratio * group["lr"]})
