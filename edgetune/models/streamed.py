"""Models larger than the memory: each layer's weights are read from disk as it computes.

accelerate's hooks bring the weights of a module in before its forward and drop them behind it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from accelerate import cpu_offload, init_empty_weights
from accelerate.hooks import remove_hook_from_module
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from edgetune.models.hardware import return_freed_blocks
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.models.source import check_model_folder
from edgetune.models.stored import StoredWeights

#: Weights that take more than this in float32 are not held in memory to be asked a few times.
#: Streamed, the importance matrix of 500 M parameters takes no longer than held in memory.
HELD_BYTES = 1 << 30


def load_for_passes(folder: Path) -> PreTrainedModel:
    """Return the model in float32 on the CPU: held in memory where it is small, else streamed."""
    return open_streamed(folder) or load_model(ModelRef(folder))


def open_streamed(folder: Path) -> PreTrainedModel | None:
    """Return the model in float32 on the CPU, in eval mode, its weights left on disk.

    Nothing where it is small enough to be held, or where its tensors on disk are not its
    parameters one by one (experts stored apart that the model stacks).
    """
    check_model_folder(folder)
    weights = StoredWeights(folder)
    if 4 * sum(math.prod(shape) for shape in weights.shapes.values()) <= HELD_BYTES:
        return None
    return_freed_blocks()
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with init_empty_weights(include_buffers=False):  # type: ignore[no-untyped-call]
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.eval()
    named = _find_weights(model, weights)
    if named is None:
        return None
    for name, buffer in model.named_buffers():
        if name in named:
            buffer.data = weights[named[name]].to(buffer.dtype)
    source = _Renamed(weights, named)
    return cpu_offload(model, torch.device("cpu"), state_dict=source)  # type: ignore[no-any-return]


def hold_weights(module: Any) -> None:
    """Read the weights of one module of a streamed model for good; any other is left alone."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)
        remove_hook_from_module(module)


class _Renamed(dict[str, Any]):
    """The model's names to the values of those on disk: a tied head is its embedding's tensor."""

    def __init__(self, weights: StoredWeights, named: dict[str, str]) -> None:
        super().__init__(named)
        self._weights = weights

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._weights[super().__getitem__(name)]


def _find_weights(model: Any, weights: StoredWeights) -> dict[str, str] | None:
    """Return each of the model's tensors' name on disk, or nothing if one is not there."""
    tied, named = dict(model.all_tied_weights_keys), {}
    for name, value in model.state_dict().items():
        stored = name if name in weights.shapes else tied.get(name, name)
        if weights.shapes.get(stored) != tuple(value.shape):
            return None
        named[name] = stored
    return named
