"""Divergences between two whole distributions, and their gradient by the student's logits.

C positions of a chunk, V vocabulary. p is the teacher's distribution, q the student's.
"""

from __future__ import annotations

import math

import torch

from edgetune.ops.sparse_loss import softmax_

KINDS = ("forward_kl", "reverse_kl", "jsd", "skewed_kl")
LEAST_LOG = -1e30  # of a probability


def dense_loss_(
    logits_CV: torch.Tensor,
    teacher_CV: torch.Tensor,
    kind: str = "forward_kl",
    mix: float = 0.5,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return τ² · D(p, q) [C] in nats; overwrite the student's logits with the gradient.

    - ``forward_kl``: KL(p ‖ q); ``reverse_kl``: KL(q ‖ p).
    - ``jsd``: β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = β p + (1 − β) q (Agarwal et al. 2023, arXiv
      2306.13649, section 2); ``mix`` is β.
    - ``skewed_kl``: KL(p ‖ α p + (1 − α) q) (Ko et al. 2024, arXiv 2402.03898, section 3.1);
      ``mix`` is α.

    Both distributions are taken at temperature τ. For any D the gradient by z is
    q (g − Σ q g) / τ with g = ∂D/∂q. What is computed is q g, which stays small where g does not.

    Args:
        logits_CV: the student's, float32; overwritten.
        teacher_CV: the teacher's, float32, of the same vocabulary; overwritten too.
        kind: one of :data:`KINDS`.
        mix: β or α; not used by the others.
        temperature: τ.
    """
    log_q_CV, log_p_CV = logits_CV.div_(temperature), teacher_CV.div_(temperature)
    q_CV, p_CV = log_q_CV.clone(), log_p_CV.clone()
    # A logit of −∞ (a masked token) stays a number, so that 0 · log 0 is 0.
    log_q_CV.sub_(softmax_(q_CV)[:, None]).clamp_(min=LEAST_LOG)
    log_p_CV.sub_(softmax_(p_CV)[:, None]).clamp_(min=LEAST_LOG)
    if kind == "forward_kl":
        loss_C = (p_CV * log_p_CV.sub_(log_q_CV)).sum(1)
        logits_CV.copy_(q_CV.sub_(p_CV)).mul_(temperature)
        return loss_C * temperature**2
    if kind == "reverse_kl":
        weighted_CV = log_q_CV.sub_(log_p_CV).mul_(q_CV)
        loss_C = weighted_CV.sum(1)
    elif kind in ("jsd", "skewed_kl"):
        # In logarithms: where p and q both fall below the least float32, m would be 0.
        log_m_CV = torch.logaddexp(log_p_CV + _log(mix), log_q_CV + _log(1 - mix))
        if kind == "jsd":
            weighted_CV = log_q_CV.sub_(log_m_CV).mul_(q_CV).mul_(1 - mix)
            loss_C = weighted_CV.sum(1) + mix * log_p_CV.sub_(log_m_CV).mul_(p_CV).sum(1)
        else:
            weighted_CV = log_q_CV.add_(log_p_CV).sub_(log_m_CV).exp_().mul_(mix - 1)
            loss_C = log_p_CV.sub_(log_m_CV).mul_(p_CV).sum(1)
    else:
        raise ValueError(f"no divergence '{kind}'; there are {', '.join(KINDS)}")
    weighted_CV.sub_(q_CV.mul_(weighted_CV.sum(1, keepdim=True))).mul_(temperature)
    return loss_C * temperature**2


def _log(share: float) -> float:
    return math.log(share) if share > 0 else LEAST_LOG
