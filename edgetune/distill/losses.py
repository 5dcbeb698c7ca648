"""What the student minimises: cross-entropy to the answer, forward KL to the teacher's sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cross_entropy_sum(logits_PV: torch.Tensor, labels_P: torch.Tensor) -> torch.Tensor:
    """Return the sum over positions of −log q(label), in nats; float32."""
    return F.cross_entropy(logits_PV.float(), labels_P, reduction="sum")


def sampled_kl_sum(
    logits_PV: torch.Tensor, ids_PK: torch.Tensor, share_PK: torch.Tensor
) -> torch.Tensor:
    """Return the sum over positions of KL(p̂ ‖ q), in nats; float32.

    p̂ is the teacher's sampled distribution: ``share_PK`` = counts / draws of ``ids_PK``, 0 where
    padded.
    Its gradient with respect to the logits is q − p̂, whose expectation over draws is the dense
    one, q − p (arXiv 2503.16870, section 3).
    """
    return _kl_sum(logits_PV.float().log_softmax(-1), ids_PK, share_PK)


def mixed_sum(
    logits_PV: torch.Tensor,
    labels_P: torch.Tensor,
    ids_PK: torch.Tensor,
    share_PK: torch.Tensor,
    kl_weight: float,
) -> torch.Tensor:
    """Return (1 − w) · cross-entropy + w · KL, each as above, from one softmax."""
    log_q_PV = logits_PV.float().log_softmax(-1)
    cross_entropy = F.nll_loss(log_q_PV, labels_P, reduction="sum")
    return (1 - kl_weight) * cross_entropy + kl_weight * _kl_sum(log_q_PV, ids_PK, share_PK)


def _kl_sum(log_q_PV: torch.Tensor, ids_PK: torch.Tensor, share_PK: torch.Tensor) -> torch.Tensor:
    entropy = torch.special.entr(share_PK).sum()  # −p̂ log p̂, 0 at 0
    return -(share_PK * log_q_PV.gather(1, ids_PK)).sum() - entropy
