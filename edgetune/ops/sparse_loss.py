"""Cross-entropy to the label mixed with forward KL to a sparse teacher, and its gradient.

C positions of a chunk, V vocabulary, K entries kept of the teacher's distribution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

LEAST_LOG = -1e30  # of a probability
LEAST_LEFT = 1e-30  # of what the kept tokens leave to all others


class SparseTargets(NamedTuple):
    """What is kept of the teacher's distribution p at each position.

    Attributes:
        ids_PK: tokens, int64; no id twice at a position, but where padded.
        probs_PK: their probabilities, float32; 0 where padded.
        tail_P: probability of all other tokens together (a top-k cut), or none: ``probs_PK`` sums
            to 1 (a sample).
    """

    ids_PK: torch.Tensor
    probs_PK: torch.Tensor
    tail_P: torch.Tensor | None = None

    def rows(self, first: int, last: int) -> SparseTargets:
        """Return those of some positions."""
        tail = None if self.tail_P is None else self.tail_P[first:last]
        return SparseTargets(self.ids_PK[first:last], self.probs_PK[first:last], tail)


def sparse_loss_(
    logits_CV: torch.Tensor,
    labels_C: torch.Tensor,
    targets: SparseTargets | None,
    kl_weight: float = 1.0,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return (1 − w) · CE + w · τ² · KL [C] in nats; overwrite the logits with the gradient.

    CE = −log q(label) and KL = Σ p log(p / q_τ), q = softmax(z) and q_τ = softmax(z / τ); p was
    taken at the same temperature τ. τ² keeps the gradient's size (Hinton et al. 2015, arXiv
    1503.02531, section 2). Where p is a sample, the gradient's expectation is that of the whole
    distribution (Anshumann et al. 2025, arXiv 2503.16870, section 3). A tail is one more outcome,
    of probability 1 − Σ q over the kept ids.

    Args:
        logits_CV: float32; overwritten.
        labels_C: int64.
        targets: of the same positions; none: cross-entropy alone.
        kl_weight: w.
        temperature: τ.
    """
    if targets is None:
        return _cross_entropy_(logits_CV, labels_C)
    if kl_weight == 1.0:
        return _kl_(logits_CV.div_(temperature), targets, temperature)[0]
    if temperature == 1.0:
        return _mixed_(logits_CV, labels_C, targets, kl_weight)
    softer_CV = logits_CV / temperature
    kl_C, _ = _kl_(softer_CV, targets, temperature)
    ce_C = _cross_entropy_(logits_CV, labels_C)
    logits_CV.mul_(1 - kl_weight).add_(softer_CV, alpha=kl_weight)
    return (1 - kl_weight) * ce_C + kl_weight * kl_C


def softmax_(logits_CV: torch.Tensor) -> torch.Tensor:
    """Overwrite the logits with the softmax and return log Σ exp(z), [C].

    By hand, because torch.logsumexp over few long rows is slow on a CPU: [41, 152,064] takes it
    485 ms, and this 40.
    """
    top_C1 = logits_CV.amax(dim=1, keepdim=True)
    total_C1 = logits_CV.sub_(top_C1).exp_().sum(dim=1, keepdim=True)
    logits_CV.div_(total_C1)
    return (top_C1 + total_C1.log()).squeeze(1)


def _cross_entropy_(logits_CV: torch.Tensor, labels_C: torch.Tensor) -> torch.Tensor:
    at_C1 = labels_C[:, None]
    z_C = logits_CV.gather(1, at_C1).squeeze(1)
    loss_C = softmax_(logits_CV) - z_C
    logits_CV.scatter_add_(1, at_C1, torch.full_like(at_C1, -1, dtype=torch.float32))
    return loss_C


def _kl_(
    scaled_CV: torch.Tensor, targets: SparseTargets, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return τ² · KL of logits that are divided by τ already, and their log-sum-exp.

    The gradient by z overwrites the logits.
    """
    ids_CK, probs_CK, tail_C = targets
    z_CK = scaled_CV.gather(1, ids_CK)
    norm_C = softmax_(scaled_CV)
    log_q_CK = (z_CK - norm_C[:, None]).clamp_(min=LEAST_LOG)  # 0 · log 0 is 0
    loss_C: torch.Tensor = -(torch.special.entr(probs_CK) + probs_CK * log_q_CK).sum(1)
    change_CK = -probs_CK
    if tail_C is not None:
        # What is left for other tokens is their sum: 1 − Σ kept is rounding where it is small.
        kept_CK = scaled_CV.gather(1, ids_CK) * (probs_CK > 0)
        scaled_CV.scatter_add_(1, ids_CK, -kept_CK)
        left_C = scaled_CV.sum(1).clamp_(min=LEAST_LEFT)
        loss_C -= torch.special.entr(tail_C) + tail_C * left_C.log()
        scaled_CV *= (1 - tail_C / left_C)[:, None]
        change_CK += kept_CK
    scaled_CV.scatter_add_(1, ids_CK, change_CK)
    if temperature != 1.0:
        scaled_CV *= temperature
    return loss_C * temperature**2, norm_C


def _mixed_(
    logits_CV: torch.Tensor, labels_C: torch.Tensor, targets: SparseTargets, kl_weight: float
) -> torch.Tensor:
    """Both losses from one softmax."""
    at_C1 = labels_C[:, None]
    z_C = logits_CV.gather(1, at_C1).squeeze(1)
    if targets.tail_P is None:
        kl_C, norm_C = _kl_(logits_CV, targets, 1.0)  # leaves q − p
        # CE's part of the gradient is q too: what is taken too much of p comes back.
        logits_CV.scatter_add_(1, targets.ids_PK, (1 - kl_weight) * targets.probs_PK)
    else:
        q_CV = logits_CV.softmax(1)
        kl_C, norm_C = _kl_(logits_CV, targets, 1.0)
        logits_CV.mul_(kl_weight).add_(q_CV, alpha=1 - kl_weight)
    less_C1 = torch.full_like(at_C1, kl_weight - 1, dtype=torch.float32)
    logits_CV.scatter_add_(1, at_C1, less_C1)
    return (1 - kl_weight) * (norm_C - z_C) + kl_weight * kl_C
