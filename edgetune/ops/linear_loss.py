"""A loss of hidden states and the head's weights, in which the logits are never whole.

The logits of a few positions at a time are computed, turned into their loss and, in the same
buffer, into their gradient, and the gradient is carried back to hidden states and weights at once:
the backward pass only scales what is there. (The scheme of Hsu et al. 2024, arXiv 2410.10989,
section 3.2, FusedLinearCrossEntropy, with the loss an argument.)

P positions, D hidden size, V vocabulary, C positions of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

#: Of a chunk's float32 logits: at V = 152,000 that is 110 positions. Each chunk reads the head's
#: weights twice: 220 positions of a bfloat16 head of D = 896 take 0.94 CPU seconds in chunks of
#: 16 MiB, 0.56 of 32, 0.40 of 64 and 0.39 of 128. In bfloat16 the products take half as much again.
CHUNK_BYTES = 64 << 20

#: Takes a chunk's logits [C, V], float32, and its place (first, last) among the positions; returns
#: the loss of each [C] and leaves in place of the logits the gradient of their sum.
ChunkLoss = Callable[[torch.Tensor, int, int], torch.Tensor]


class Head(NamedTuple):
    """What makes logits of hidden states: cap(scale · (h Wᵀ + b)).

    Attributes:
        weight_VD: rows beyond the vocabulary that the loss knows must be cut off before.
        bias_V: or none.
        scale: Granite's, Cohere's factor.
        cap: Gemma 2's soft cap, c · tanh(logit / c); 0 for none.
    """

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None = None
    scale: float = 1.0
    cap: float = 0.0

    def logits(self, hidden_CD: torch.Tensor) -> torch.Tensor:
        """Return float32 logits [C, V]."""
        product_CV = torch.nn.functional.linear(hidden_CD, self.weight_VD, self.bias_V)
        return self.finish_(product_CV.float())

    def finish_(self, logits_CV: torch.Tensor) -> torch.Tensor:
        """Scale and cap float32 products [C, V] in place; return them."""
        if self.scale != 1.0:
            logits_CV *= self.scale
        if self.cap:
            logits_CV.div_(self.cap).tanh_().mul_(self.cap)
        return logits_CV


class _Buffers:
    """Where each chunk's logits are computed: memory newly mapped costs a fault a page."""

    def __init__(self, head: Head, step: int) -> None:
        size = (step, len(head.weight_VD))
        self._head = head
        self._narrow_CV = head.weight_VD.new_empty(size)
        floats = self._narrow_CV.dtype == torch.float32
        self._wide_CV = self._narrow_CV if floats else self._narrow_CV.new_empty(
            size, dtype=torch.float32
        )  # fmt: skip

    def logits(self, hidden_CD: torch.Tensor) -> torch.Tensor:
        """Return float32 logits [C, V], until those of the next chunk."""
        narrow_CV = self._narrow_CV[: len(hidden_CD)]
        torch.mm(hidden_CD, self._head.weight_VD.T, out=narrow_CV)
        if self._head.bias_V is not None:
            narrow_CV += self._head.bias_V
        wide_CV = self._wide_CV[: len(hidden_CD)]
        if wide_CV.dtype != narrow_CV.dtype:
            wide_CV.copy_(narrow_CV)
        return self._head.finish_(wide_CV)

    def narrow(self, grad_CV: torch.Tensor) -> torch.Tensor:
        """Return what :meth:`logits` returned, overwritten since, in the dtype of the weights."""
        if grad_CV.dtype == self._narrow_CV.dtype:
            return grad_CV
        return self._narrow_CV[: len(grad_CV)].copy_(grad_CV)


def linear_loss_sum(hidden_PD: torch.Tensor, head: Head, loss_: ChunkLoss) -> torch.Tensor:
    """Return the sum of ``loss_`` over all positions, float32, differentiable.

    Gradients reach ``hidden_PD``, ``head.weight_VD`` and ``head.bias_V``, each in its own dtype;
    they are summed over chunks in float32.
    """
    loss: torch.Tensor = _LinearLoss.apply(  # type: ignore[no-untyped-call]
        hidden_PD, head.weight_VD, head.bias_V, head.scale, head.cap, loss_
    )
    return loss


def whole_loss_sum(logits_PV: torch.Tensor, loss_: ChunkLoss) -> torch.Tensor:
    """Return the same of logits that are there already, for a head of no known formula."""
    loss: torch.Tensor = _WholeLoss.apply(logits_PV, loss_)  # type: ignore[no-untyped-call]
    return loss


class _WholeLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_PV: torch.Tensor, loss_: ChunkLoss) -> torch.Tensor:
        buffer_PV = logits_PV.float().clone()
        total = loss_(buffer_PV, 0, len(buffer_PV)).sum()
        ctx.save_for_backward(buffer_PV.to(logits_PV.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        (gradient_PV,) = ctx.saved_tensors
        return gradient_PV * upstream.to(gradient_PV.dtype), None


class _LinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_PD: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        scale: float,
        cap: float,
        loss_: ChunkLoss,
    ) -> torch.Tensor:
        head = Head(weight_VD, bias_V, scale, cap)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_PD = torch.empty_like(hidden_PD) if wants_hidden else None
        grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if wants_weight else None
        grad_V = torch.zeros(len(weight_VD), device=weight_VD.device) if wants_bias else None
        total = torch.zeros((), device=hidden_PD.device)
        step = min(max(1, CHUNK_BYTES // (4 * len(weight_VD))), max(1, len(hidden_PD)))
        buffers = _Buffers(head, step)
        for first in range(0, len(hidden_PD), step):
            last = min(first + step, len(hidden_PD))
            hidden_CD = hidden_PD[first:last]
            logits_CV = buffers.logits(hidden_CD)
            slope_CV = 1 - (logits_CV / cap) ** 2 if cap else None  # of the soft cap
            total += loss_(logits_CV, first, last).sum()
            if not (wants_hidden or wants_weight or wants_bias):
                continue
            grad_CV = logits_CV  # by the contract of loss_
            if slope_CV is not None:
                grad_CV *= slope_CV
            if scale != 1.0:
                grad_CV *= scale
            narrow_CV = buffers.narrow(grad_CV)
            if grad_PD is not None:
                torch.mm(narrow_CV, weight_VD, out=grad_PD[first:last])
            if grad_VD is not None:
                _add_product(grad_VD, narrow_CV, hidden_CD)
            if grad_V is not None:
                grad_V += grad_CV.sum(0)
        ctx.save_for_backward(
            grad_PD,
            None if grad_VD is None else grad_VD.to(weight_VD.dtype),
            None if grad_V is None or bias_V is None else grad_V.to(bias_V.dtype),
        )
        return total

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        # Out of place: what was saved may be asked for twice (retain_graph).
        gradients = [g if g is None else g * upstream.to(g.dtype) for g in ctx.saved_tensors]
        return (*gradients, None, None, None)


def _add_product(sum_VD: torch.Tensor, grad_CV: torch.Tensor, hidden_CD: torch.Tensor) -> None:
    """Add gradᵀ · hidden, float32, to the sum."""
    if hidden_CD.dtype == torch.float32:
        sum_VD.addmm_(grad_CV.T, hidden_CD)
    else:
        sum_VD += grad_CV.T @ hidden_CD
