"""RMSNorm with a frozen weight, as one differentiable function.

y = w · round(x / rms(x)), rms(x) = sqrt(mean(x²) + ε) (Zhang and Sennrich 2019, arXiv 1910.07467,
equation 4), in float32 up to the rounding to the dtype of x. Only x and 1 / rms are kept for the
backward pass. Rows are taken a few at a time, so that what is between stays in the processor's
cache; written out for autograd it is some ten passes over memory, and 10 bytes a number are kept.

T tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

#: Numbers of a chunk: 512 KB in float32.
_CHUNK = 1 << 17


def rms_norm(x: torch.Tensor, weight_D: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return w · x / rms(x) [..., D] in the dtype of ``x``; differentiable by ``x`` alone."""
    normed: torch.Tensor = _RMSNorm.apply(x, weight_D, epsilon)  # type: ignore[no-untyped-call]
    return normed


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight_D: torch.Tensor, epsilon: float) -> torch.Tensor:
        x_TD = x.reshape(-1, x.shape[-1])
        y_TD = torch.empty_like(x_TD)
        inverse_T1 = x_TD.new_empty((len(x_TD), 1), dtype=torch.float32)
        for rows in _chunks(x_TD):
            wide = x_TD[rows].float()
            inverse = (wide.square().mean(1, keepdim=True) + epsilon).rsqrt_()
            inverse_T1[rows] = inverse
            y_TD[rows] = (wide * inverse).to(x.dtype).mul_(weight_D)
        ctx.save_for_backward(x, weight_D, inverse_T1)
        return y_TD.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        x, weight_D, inverse_T1 = ctx.saved_tensors
        x_TD = x.reshape(-1, x.shape[-1])
        upstream_TD = upstream.reshape(x_TD.shape)
        grad_TD = torch.empty_like(x_TD)
        for rows in _chunks(x_TD):
            inverse = inverse_T1[rows]
            normed = x_TD[rows] * inverse
            slope = (upstream_TD[rows] * weight_D).float()
            mean = (slope * normed).mean(1, keepdim=True)
            grad_TD[rows] = slope.sub_(normed.mul_(mean)).mul_(inverse)
        return grad_TD.view(x.shape), None, None


def _chunks(x_TD: torch.Tensor) -> list[slice]:
    total, width = x_TD.shape
    step = max(1, _CHUNK // width) if x_TD.device.type == "cpu" else max(1, total)
    return [slice(first, min(first + step, total)) for first in range(0, total, step)]
