"""A model whose weights are read from disk when their values are asked for.

Code that slices, joins and transposes weights, as exporters do, runs on it as on any model: what it
does is noted, and done to the values of a weight at a time, when :func:`read_values` asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel

from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.offload import build_empty


class DeferredTensor(torch.Tensor):
    """A tensor that has a shape, and values once they are asked for.

    Args:
        make: returns the values.
        like: a tensor of their shape and dtype, on any device.
    """

    make: Callable[[], torch.Tensor]

    @staticmethod
    def __new__(
        cls: type[DeferredTensor], make: Callable[[], torch.Tensor], like: torch.Tensor
    ) -> DeferredTensor:
        made: DeferredTensor = torch.Tensor._make_wrapper_subclass(
            cls, like.shape, strides=like.stride(), dtype=like.dtype
        )
        made.make = make
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = (args, kwargs or {})

        def compute() -> Any:
            arguments, named = tree_map_only(DeferredTensor, read_values, given)
            return func(*arguments, **named)

        # It fills a tensor that has values, or asks for a number.
        if func._schema.is_mutable or torch.Tag.data_dependent_output in func.tags:
            return compute()
        arguments, named = tree_map_only(torch.Tensor, _shape_only, given)
        found = func(*arguments, **named)
        if isinstance(found, torch.Tensor):
            return cls(compute, found)
        return [cls(partial(_item, compute, number), one) for number, one in enumerate(found)]


def read_values(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor's values, read and computed now if they were put off."""
    return tensor.make() if isinstance(tensor, DeferredTensor) else tensor


def open_deferred(folder: Path) -> PreTrainedModel | None:
    """Return the model in float32, its weights :class:`DeferredTensor`\\ s.

    Nothing where its tensors on disk are not its parameters one by one.
    """
    weights = CheckpointTensors(folder)
    found = build_empty(folder, weights)
    if found is None:
        return None
    model, named = found
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        module, _, leaf = name.rpartition(".")
        deferred = DeferredTensor(partial(weights.__getitem__, named[name]), parameter.data)
        owner = model.get_submodule(module)
        setattr(owner, leaf, torch.nn.Parameter(deferred, requires_grad=False))
    return model  # type: ignore[no-any-return]


def _shape_only(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _item(compute: Callable[[], Any], number: int) -> torch.Tensor:
    found: torch.Tensor = compute()[number]
    return found
