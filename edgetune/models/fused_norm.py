"""Norms of a model computed by :mod:`edgetune.ops.rms_norm`, where that is the same."""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from edgetune.ops.rms_norm import rms_norm

_FORMULA = LlamaRMSNorm.forward.__code__


def fuse_norms(model: Any) -> None:
    """Give norms with a frozen weight the fused forward pass.

    Families write their own classes; those whose code is Llama's, instruction by instruction, are
    taken (Qwen, Mistral, Phi-3 and most others). Gemma's, which scales by 1 + w, is not.
    """
    for module in model.modules():
        code = getattr(type(module).forward, "__code__", None)
        if (
            code is not None
            and _meaning(code) == _meaning(_FORMULA)
            and "forward" not in vars(module)
            and not module.weight.requires_grad
        ):
            module.forward = FusedNorm(module)


def _meaning(code: Any) -> tuple[Any, ...]:
    return code.co_code, code.co_names, code.co_consts, code.co_varnames


class FusedNorm:
    """The forward pass of a norm.

    Args:
        module: transformers' norm.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        weight = self._module.weight
        if weight.requires_grad or weight.dtype != x.dtype:
            own: torch.Tensor = type(self._module).forward(self._module, x)
            return own
        return rms_norm(x, weight, self._module.variance_epsilon)
