"""Cross-entropy to the label mixed with forward KL to a sparse teacher, and its gradient.

C positions of a chunk, V vocabulary, K entries kept of the teacher's distribution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class SparseTargets(NamedTuple):
    """What is kept of the teacher's distribution p at each position.

    Attributes:
        ids_PK: tokens, int64; no id twice at a position, but where padded.
        share_PK: their probabilities, float32; 0 where padded.
        tail_P: probability of all other tokens together (a top-k cut), or none: ``share_PK`` sums
            to 1 (a sample).
    """

    ids_PK: torch.Tensor
    share_PK: torch.Tensor
    tail_P: torch.Tensor | None = None

    def rows(self, first: int, last: int) -> SparseTargets:
        """Return those of some positions."""
        tail = None if self.tail_P is None else self.tail_P[first:last]
        return SparseTargets(self.ids_PK[first:last], self.share_PK[first:last], tail)


def sparse_loss_(
    logits_CV: torch.Tensor,
    labels_C: torch.Tensor,
    targets: SparseTargets | None,
    kl_weight: float = 1.0,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return (1 − w) · CE + w · τ² · KL [C] in nats; leave the gradient in place of the logits.

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
        return _kl_(logits_CV.div_(temperature), targets, temperature)
    if temperature == 1.0:
        return _mixed_(logits_CV, labels_C, targets, kl_weight)
    softer_CV = logits_CV / temperature
    kl_C = _kl_(softer_CV, targets, temperature)
    ce_C = _cross_entropy_(logits_CV, labels_C)
    logits_CV.mul_(1 - kl_weight).add_(softer_CV, alpha=kl_weight)
    return (1 - kl_weight) * ce_C + kl_weight * kl_C


def _cross_entropy_(logits_CV: torch.Tensor, labels_C: torch.Tensor) -> torch.Tensor:
    at_C1 = labels_C[:, None]
    log_q_CV = logits_CV.sub_(logits_CV.logsumexp(dim=1, keepdim=True))
    loss_C = -log_q_CV.gather(1, at_C1).squeeze(1)
    log_q_CV.exp_().scatter_add_(1, at_C1, torch.full_like(at_C1, -1, dtype=torch.float32))
    return loss_C


def _kl_(scaled_CV: torch.Tensor, targets: SparseTargets, temperature: float) -> torch.Tensor:
    """Return τ² · KL of logits that are divided by τ already; leave the gradient by z."""
    ids_CK, share_CK, tail_C = targets
    log_q_CV = scaled_CV.sub_(scaled_CV.logsumexp(dim=1, keepdim=True))
    log_q_CK = log_q_CV.gather(1, ids_CK)
    loss_C: torch.Tensor = -(torch.special.entr(share_CK) + share_CK * log_q_CK).sum(1)
    q_CV = log_q_CV.exp_()
    change_CK = -share_CK
    if tail_C is not None:
        kept_CK = log_q_CK.exp() * (share_CK > 0)
        left_C = (1 - kept_CK.sum(1)).clamp(min=1e-9)
        loss_C -= torch.special.entr(tail_C) + tail_C * left_C.log()
        factor_C1 = (1 - tail_C / left_C)[:, None]
        q_CV *= factor_C1
        change_CK = kept_CK * (1 - factor_C1) - share_CK
    q_CV.scatter_add_(1, ids_CK, change_CK)
    q_CV *= temperature
    return loss_C * temperature**2


def _mixed_(
    logits_CV: torch.Tensor, labels_C: torch.Tensor, targets: SparseTargets, kl_weight: float
) -> torch.Tensor:
    """Both losses from one softmax."""
    at_C1 = labels_C[:, None]
    # Of the gradient, the part that both have in common is q; CE's own is −1 at the label.
    ce_C = logits_CV.logsumexp(dim=1) - logits_CV.gather(1, at_C1).squeeze(1)
    if targets.tail_P is None:
        scaled = SparseTargets(targets.ids_PK, targets.share_PK)
        kl_C = _kl_(logits_CV, scaled, 1.0)  # q − p
        back_CK = (1 - kl_weight) * targets.share_PK
        logits_CV.scatter_add_(1, targets.ids_PK, back_CK)  # q − w p
    else:
        q_CV = logits_CV.softmax(1)
        kl_C = _kl_(logits_CV, targets, 1.0)
        logits_CV.mul_(kl_weight).add_(q_CV, alpha=1 - kl_weight)
    less = torch.full_like(at_C1, kl_weight - 1, dtype=torch.float32)
    logits_CV.scatter_add_(1, at_C1, less)
    return (1 - kl_weight) * ce_C + kl_weight * kl_C
