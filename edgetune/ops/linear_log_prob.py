"""Log probabilities of tokens from hidden states and the head's weights, logits never whole.

The logits of a few positions at a time become their log probability and, in the same buffer, its
gradient with respect to the hidden state. What a loss makes of the log probabilities is not known
then, and need not be: the gradient of each is scaled by the loss's in the backward pass.

P positions, D hidden size, V vocabulary, C positions of a chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from edgetune.ops.linear_loss import CHUNK_BYTES, Head


class TokenScores(NamedTuple):
    """What a model says of given tokens.

    Attributes:
        log_prob_P: of the token, float32; the others have no gradient.
        entropy_P: of the distribution, nats.
        mean_logit_P: over the vocabulary.
        is_top_P: whether no other token is more probable.
    """

    log_prob_P: torch.Tensor
    entropy_P: torch.Tensor
    mean_logit_P: torch.Tensor
    is_top_P: torch.Tensor


def linear_log_probs(hidden_PD: torch.Tensor, head: Head, token_P: torch.Tensor) -> TokenScores:
    """Return the scores of ``token_P``; gradients reach ``hidden_PD`` alone.

    Raises:
        ValueError: the head's own weights are trained.
    """
    if head.weight_VD.requires_grad and torch.is_grad_enabled():
        raise ValueError("the gradient of the head's weights is not computed here")
    return TokenScores(*_LinearLogProbs.apply(hidden_PD, head, token_P))  # type: ignore[no-untyped-call]


def log_probs_alone(hidden_PD: torch.Tensor, head: Head, token_P: torch.Tensor) -> torch.Tensor:
    """Return the log probabilities of ``token_P`` without gradients, float32 [P]."""
    found_P = torch.empty(len(hidden_PD), device=hidden_PD.device)
    step = max(1, CHUNK_BYTES // (4 * len(head.weight_VD)))
    with torch.no_grad():
        for first in range(0, len(hidden_PD), step):
            part = slice(first, first + step)
            logits_CV = head.logits(hidden_PD[part])
            own_C = logits_CV.gather(1, token_P[part, None])[:, 0]
            found_P[part] = own_C - logits_CV.logsumexp(-1)
    return found_P


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_PD: torch.Tensor, head: Head, token_P: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        count, device = len(hidden_PD), hidden_PD.device
        grad_PD = torch.empty_like(hidden_PD) if ctx.needs_input_grad[0] else None
        floats = [torch.empty(count, device=device) for _ in range(3)]
        top_P = torch.empty(count, dtype=torch.bool, device=device)
        weight_VD = head.weight_VD
        step = min(max(1, CHUNK_BYTES // (4 * len(weight_VD))), max(1, count))
        buffer_CV = torch.empty(step, len(weight_VD), device=device)
        for first in range(0, count, step):
            part = slice(first, min(first + step, count))
            token_C1 = token_P[part, None]
            logits_CV = head.logits(hidden_PD[part])
            own_C = logits_CV.gather(1, token_C1)[:, 0]
            most_C = logits_CV.amax(-1)
            exp_CV = torch.sub(logits_CV, most_C[:, None], out=buffer_CV[: len(own_C)]).exp_()
            sum_C = exp_CV.sum(-1)
            log_sum_C = most_C + sum_C.log()
            floats[0][part] = own_C - log_sum_C
            floats[1][part] = log_sum_C - torch.linalg.vecdot(exp_CV, logits_CV) / sum_C
            floats[2][part] = logits_CV.mean(-1)
            top_P[part] = own_C == most_C
            if grad_PD is None:
                continue
            grad_CV = exp_CV.div_(-sum_C[:, None])
            grad_CV.scatter_add_(1, token_C1, torch.ones_like(own_C)[:, None])
            if head.cap:
                grad_CV *= 1 - (logits_CV / head.cap) ** 2
            if head.scale != 1.0:
                grad_CV *= head.scale
            torch.mm(grad_CV.to(weight_VD.dtype), weight_VD, out=grad_PD[part])
        ctx.save_for_backward(grad_PD)
        ctx.mark_non_differentiable(*floats[1:], top_P)
        return (*floats, top_P)

    @staticmethod
    def backward(ctx: Any, upstream_P: torch.Tensor, *_: torch.Tensor) -> Any:
        (grad_PD,) = ctx.saved_tensors
        return grad_PD * upstream_P.to(grad_PD.dtype)[:, None], None, None
