"""Linear layers of one input, each with a low-rank update, as one differentiable function.

y_i = x W_iᵀ + b_i + s_i (x' A_iᵀ) B_iᵀ with W_i frozen (Hu et al. 2021, arXiv 2106.09685, section
4.1); x' is x, or x after dropout. Beside x', which all of them share, only x' A_iᵀ is kept for the
backward pass; updates are added where products are written. Layer by layer through autograd, an
update over a bfloat16 base is a float32 copy of x, float32 products and five passes over an output.

T tokens, D inputs, O outputs of a layer, R ranks of all layers together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable


class FrozenLinear(NamedTuple):
    """What is frozen of a layer.

    Attributes:
        weight: returns W [O, D] in the dtype of x; asked again in the backward pass, so that what
            is unpacked for it need not be kept.
        bias: b [O] in the dtype of x, or none.
        scale: s, of the update.
    """

    weight: Callable[[], torch.Tensor]
    bias: torch.Tensor | None
    scale: float


def lora_linears(
    x: torch.Tensor,
    layers: Sequence[FrozenLinear],
    factors: Sequence[torch.Tensor],
    dropped: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    """Return the output of each layer [..., O], in the dtype of ``x``.

    Args:
        x: input of all layers [..., D].
        layers: frozen parts.
        factors: A [r, D] and B [O, r] of each layer in turn, float32 or the dtype of ``x``. They
            are rounded to it for the products, which accumulate in float32; gradients have the
            factors' own dtype.
        dropped: what the updates get in place of ``x``.
    """
    outputs: tuple[torch.Tensor, ...] = _LoraLinears.apply(  # type: ignore[no-untyped-call]
        x, dropped, tuple(layers), *factors
    )
    return outputs


class _LoraLinears(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor | None,
        layers: tuple[FrozenLinear, ...],
        *factors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        x_TD = x.reshape(-1, x.shape[-1])
        ctx.drops = dropped is not None
        used = x if dropped is None else dropped
        low_TR = used.reshape(x_TD.shape) @ _stack(factors[::2], x.dtype).T
        outputs, at = [], 0
        for layer, b_Or in zip(layers, factors[1::2], strict=True):
            last = at + b_Or.shape[1]
            y_TO = torch.nn.functional.linear(x_TD, layer.weight(), layer.bias)
            y_TO.addmm_(low_TR[:, at:last], (b_Or * layer.scale).to(x.dtype).T)
            outputs.append(y_TO.view(*x.shape[:-1], -1))
            at = last
        ctx.layers = layers
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(used, low_TR, *factors)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: torch.Tensor | None) -> Any:
        x, low_TR, *factors = ctx.saved_tensors
        x_TD = x.reshape(-1, x.shape[-1])
        wants_x = ctx.needs_input_grad[0]
        grad_TD: torch.Tensor | None = None
        low_grad_TR = torch.zeros_like(low_TR)
        grads: list[torch.Tensor | None] = [None] * len(factors)
        at = 0
        for number, (layer, grad) in enumerate(zip(ctx.layers, upstream, strict=True)):
            b_Or = factors[2 * number + 1]
            first, at = at, at + b_Or.shape[1]
            if grad is None:
                continue
            grad_TO = grad.reshape(-1, grad.shape[-1])
            low_grad_TR[:, first:at] = grad_TO @ (b_Or * layer.scale).to(x.dtype)
            grad_rO = low_TR[:, first:at].T @ grad_TO
            grads[2 * number + 1] = grad_rO.T.to(b_Or.dtype).mul_(layer.scale)
            if wants_x and grad_TD is None:
                grad_TD = grad_TO @ layer.weight()
            elif grad_TD is not None:
                grad_TD.addmm_(grad_TO, layer.weight())
        a_RD = _stack(factors[::2], x.dtype)
        grad_RD = low_grad_TR.T @ x_TD  # x' here
        ranks = [factor.shape[0] for factor in factors[::2]]
        for number, part in enumerate(grad_RD.split(ranks)):
            grads[2 * number] = part.to(factors[2 * number].dtype)
        dropped_grad_TD = None
        if ctx.drops:
            dropped_grad_TD = (low_grad_TR @ a_RD).view(x.shape)
        elif grad_TD is not None:
            grad_TD.addmm_(low_grad_TR, a_RD)
        grad_x = None if grad_TD is None else grad_TD.view(x.shape)
        return grad_x, dropped_grad_TD, None, *grads


def _stack(factors: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    return torch.cat([factor.to(dtype) for factor in factors])
