"""The head run only where its logits are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


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
