"""The head run only where its logits are asked for, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from edgetune.ops.linear_loss import Head


@contextmanager
def head_only_at(model: Any, chosen_BT: torch.Tensor) -> Iterator[None]:
    """Let ``model`` give logits [P, V] at the P chosen positions, row by row, not [B, T, V].

    Prompts are half of the tokens of a usual row and nothing is asked of them, while the head of a
    small model is a third of its work. What a family does to logits after its head (scaling,
    capping) is done to each alone, so it is as before.
    """

    def choose(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return inputs[0][chosen_BT]

    handle = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def hidden_at(model: Any, chosen_BT: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    """Return the hidden states [P, D] that the head would get at the chosen positions."""
    kept: list[torch.Tensor] = []

    def take(_: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
        kept.append(arguments[0][chosen_BT])
        return kept[0][:0]  # the head computes nothing

    handle = model.get_output_embeddings().register_forward_pre_hook(take)
    try:
        model(**inputs, use_cache=False)
    finally:
        handle.remove()
    return kept[0]


def find_head(model: Any, own: Head | None = None) -> Head | None:
    """Return what makes this model's logits of its hidden states, or none where that is unknown.

    The formula is proven on a few tokens: a family that does something else to its logits, or a
    head with an adapter on it, has none.

    Args:
        model: in torch.
        own: its head, where the weights of the model are on disk.
    """
    layer = model.get_output_embeddings()
    if type(layer) is not torch.nn.Linear:
        return None
    head = own or head_formula(model)
    ids_BT = torch.arange(1, 5, device=head.weight_VD.device)[None]
    every_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            wanted_PV = model(input_ids=ids_BT, use_cache=False).logits[0].float()
            found_PV = head.logits(hidden_at(model, every_BT, input_ids=ids_BT))
    finally:
        model.train(was_training)
    close = 1e-2 if layer.weight.dtype != torch.float32 else 1e-4
    off = (wanted_PV - found_PV).abs().max() / wanted_PV.abs().max().clamp(min=1e-6)
    return head if float(off) < close else None


def head_formula(model: Any) -> Head:
    """Return the head of a model by what its configuration says, proven by nothing.

    Cohere, Falcon-H1 and HyperCLOVA X multiply logits, Granite and MiniCPM divide them; Gemma caps
    them. (Their names: TRL's ``DistillationTrainer`` reads the same.)
    """
    layer, config = model.get_output_embeddings(), model.config.get_text_config()
    scale = 1.0
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        scale *= float(getattr(config, name, None) or 1.0)
    scaling = float(getattr(config, "logits_scaling", None) or 1.0)
    scale *= scaling if config.model_type == "hyperclovax" else 1 / scaling
    cap = float(getattr(config, "final_logit_softcapping", None) or 0.0)
    return Head(layer.weight, getattr(layer, "bias", None), scale, cap)
