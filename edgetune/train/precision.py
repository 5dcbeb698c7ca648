"""The precision that weights are trained in."""

from __future__ import annotations

from typing import Any

import torch


def keep_trainable_float32(model: Any) -> None:
    """Keep trainable parameters in float32, where small updates are not rounded away."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
