"""PEFT's LoRA layers computed by :mod:`edgetune.ops.lora_linear`, where that is the same.

A layer stays PEFT's in every other way: it is saved, merged, switched off and loaded as before.
DoRA, several adapters and layers that are not linear keep PEFT's own forward pass. Dropout is drawn
once for layers of one input, where PEFT draws it for each: every layer's input is dropped as often.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from edgetune.models.gguf_linear import GgufLinear
from edgetune.models.nf4 import is_packed, unpack
from edgetune.ops.lora_linear import FrozenLinear, lora_linears

#: Layers of one parent that transformers' attention and MLP give the same input.
_SHARING = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def fuse_lora(model: Any) -> None:
    """Give the plain LoRA layers of a PEFT model the fused forward pass."""
    for parent in model.modules():
        children = dict(parent.named_children())
        for names in _SHARING:
            members = [children.pop(name) for name in names if _is_plain(children.get(name))]
            if members:
                _fuse(members)
        for child in children.values():
            if _is_plain(child):
                _fuse([child])


def _fuse(members: list[Any]) -> None:
    shared = _Shared()
    for module in members:
        module.forward = FusedForward(module, members, shared)


@dataclass
class _Shared:
    """Outputs that the first layer computed for the others, until they ask for them."""

    source: torch.Tensor | None = None
    outputs: dict[int, torch.Tensor] = field(default_factory=dict)


class FusedForward:
    """The forward pass of a layer, which computes those that share its input with it.

    Args:
        module: PEFT's layer.
        members: it and the layers beside it; the first of them computes all.
        shared: outputs of the members.
    """

    def __init__(self, module: Any, members: list[Any], shared: _Shared) -> None:
        self._module, self._members, self._shared = module, members, shared

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        module, shared = self._module, self._shared
        if args or kwargs or not _applies(module, x):
            own: torch.Tensor = type(module).forward(module, x, *args, **kwargs)
            return own
        if x is shared.source and id(module) in shared.outputs:
            found = shared.outputs.pop(id(module))
            if not shared.outputs:
                shared.source = None
            return found
        members = [module]
        if module is self._members[0]:
            members += [one for one in self._members[1:] if _joins(one, module, x)]
        first, *rest = _compute(members, x)
        if rest:
            shared.source = x
            shared.outputs = {id(m): y for m, y in zip(members[1:], rest, strict=True)}
        return first


def _joins(module: Any, first: Any, x: torch.Tensor) -> bool:
    return _applies(module, x) and _dropout_of(module) == _dropout_of(first)


def _dropout_of(module: Any) -> tuple[float, bool]:
    (name,) = module.lora_A
    dropout = module.lora_dropout[name]
    return float(getattr(dropout, "p", 0.0)), bool(dropout.training)


def _compute(members: list[Any], x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    layers, factors = [], []
    for module in members:
        (name,) = module.lora_A
        base = module.base_layer
        bias = base.bias if base.bias is None else base.bias.to(x.dtype)
        layers.append(FrozenLinear(_Weight(base, x.dtype), bias, module.scaling[name]))
        factors += [module.lora_A[name].weight, module.lora_B[name].weight]
    dropout = members[0].lora_dropout[name]
    drops = isinstance(dropout, torch.nn.Dropout) and dropout.training and dropout.p > 0
    return lora_linears(x, layers, factors, dropout(x) if drops else None)


@dataclass(frozen=True)
class _Weight:
    """The weight of a layer, unpacked where it is asked for."""

    base: Any
    dtype: torch.dtype

    def __call__(self) -> torch.Tensor:
        weight: torch.Tensor = self.base.weight
        if isinstance(self.base, GgufLinear):
            return self.base.values()
        if is_packed(self.base):
            return unpack(weight.data, self.base.weight.quant_state).to(self.dtype)
        return weight


def _is_plain(module: Any) -> bool:
    """Whether a layer is PEFT's LoRA and nothing more on a linear layer."""
    if not (hasattr(module, "lora_A") and hasattr(module, "base_layer")):
        return False
    base = module.base_layer
    known = type(base) in (torch.nn.Linear, GgufLinear) or is_packed(base)
    if not known or len(module.lora_A) != 1:
        return False
    (name,) = module.lora_A
    return (
        not module.lora_variant  # DoRA and others
        and not any(module.lora_bias.values())
        and type(module.lora_dropout[name]) in (torch.nn.Identity, torch.nn.Dropout)
        and not getattr(module, "fan_in_fan_out", False)
        and not base.weight.requires_grad
    )


def _applies(module: Any, x: torch.Tensor) -> bool:
    """Whether the layer computes now what it was when it was fused, in the dtype of its input."""
    if module.disable_adapters or module.merged or list(module.lora_A) != module.active_adapters:
        return False
    base = module.base_layer
    return bool(x.dtype == getattr(base, "compute_dtype", base.weight.dtype))
