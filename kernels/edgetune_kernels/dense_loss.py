"""Divergences between whole distributions: loss and gradient of a row in place.

One program a position, three passes over both rows: the softmax sums, the divergence with the mean
of its slope, the gradient. The definition: edgetune.ops.dense_loss.dense_loss_.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

BLOCK_V = 4096
_KINDS = {"forward_kl": 0, "reverse_kl": 1, "jsd": 2, "skewed_kl": 3}


@triton.jit
def _log_sum_exp(pointer, columns, vocabulary, temperature, BLOCK_V: tl.constexpr):
    """log Σ exp(z / τ) of a row."""
    largest = -float("inf")
    total = 0.0
    for start in range(0, vocabulary, BLOCK_V):
        inside = start + columns < vocabulary
        z = tl.load(pointer + start + columns, mask=inside, other=-float("inf")).to(tl.float32)
        z /= temperature
        above = tl.maximum(largest, tl.max(z, 0))
        total = total * tl.exp(largest - above) + tl.sum(tl.exp(z - above), 0)
        largest = above
    return largest + tl.log(total)


@triton.jit
def _parts(student_ptr, teacher_ptr, at, inside, norm_q, norm_p, mix, log_mix, log_rest,
           temperature, KIND: tl.constexpr):  # fmt: skip
    """q, p, the divergence's terms, and q times its slope by q, of a block; 0 outside the row."""
    z = tl.load(student_ptr + at, mask=inside, other=0.0).to(tl.float32) / temperature
    y = tl.load(teacher_ptr + at, mask=inside, other=0.0).to(tl.float32) / temperature
    # A logit of −∞ (a masked token) stays a number, so that 0 · log 0 is 0.
    log_q = tl.maximum(z - norm_q, -1e30)
    log_p = tl.maximum(y - norm_p, -1e30)
    q = tl.exp(log_q)
    p = tl.exp(log_p)
    if KIND == 0:
        term = p * (log_p - log_q)
        weighted = -p  # not used: the gradient is q − p
    elif KIND == 1:
        weighted = q * (log_q - log_p)
        term = weighted
    else:
        # In logarithms: where p and q both fall below the least float32, m would be 0.
        from_p = log_p + log_mix
        from_q = log_q + log_rest
        above = tl.maximum(from_p, from_q)
        log_m = above + tl.log(1.0 + tl.exp(tl.minimum(from_p, from_q) - above))
        if KIND == 2:
            weighted = (1.0 - mix) * q * (log_q - log_m)
            term = mix * p * (log_p - log_m) + weighted
        else:
            weighted = (mix - 1.0) * tl.exp(log_q + log_p - log_m)
            term = p * (log_p - log_m)
    zero = tl.zeros_like(q)
    return (
        tl.where(inside, q, zero), p, tl.where(inside, term, zero), tl.where(inside, weighted, zero)
    )  # fmt: skip


@triton.jit
def _dense_loss_kernel(
    student_ptr, student_stride, teacher_ptr, teacher_stride, loss_ptr, vocabulary, mix,
    log_mix, log_rest, temperature, KIND: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    student_ptr += row * student_stride
    teacher_ptr += row * teacher_stride
    columns = tl.arange(0, BLOCK_V)
    norm_q = _log_sum_exp(student_ptr, columns, vocabulary, temperature, BLOCK_V)
    norm_p = _log_sum_exp(teacher_ptr, columns, vocabulary, temperature, BLOCK_V)
    loss = 0.0
    mean = 0.0
    for start in range(0, vocabulary, BLOCK_V):
        at = start + columns
        inside = at < vocabulary
        _q, _p, term, weighted = _parts(
            student_ptr, teacher_ptr, at, inside, norm_q, norm_p, mix, log_mix, log_rest,
            temperature, KIND,
        )  # fmt: skip
        loss += tl.sum(term, 0)
        mean += tl.sum(weighted, 0)
    tl.store(loss_ptr + row, loss * temperature * temperature)
    for start in range(0, vocabulary, BLOCK_V):
        at = start + columns
        inside = at < vocabulary
        q, p, _term, weighted = _parts(
            student_ptr, teacher_ptr, at, inside, norm_q, norm_p, mix, log_mix, log_rest,
            temperature, KIND,
        )  # fmt: skip
        gradient = q - p if KIND == 0 else weighted - q * mean
        tl.store(student_ptr + at, gradient * temperature, mask=inside)


def dense_loss_(
    logits_CV: torch.Tensor,
    teacher_CV: torch.Tensor,
    kind: str = "forward_kl",
    mix: float = 0.5,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return τ² · D(p, q) [C], float32; leave the gradient in place of the float32 logits."""
    if kind not in _KINDS:
        raise ValueError(f"no divergence '{kind}'; there are {', '.join(_KINDS)}")
    log_mix, log_rest = (math.log(share) if share > 0 else -1e30 for share in (mix, 1 - mix))
    positions, vocabulary = logits_CV.shape
    loss_C = torch.empty(positions, dtype=torch.float32, device=logits_CV.device)
    if positions:
        _dense_loss_kernel[(positions,)](
            logits_CV, logits_CV.stride(0), teacher_CV, teacher_CV.stride(0), loss_C, vocabulary,
            float(mix), log_mix, log_rest, float(temperature), KIND=_KINDS[kind],
            BLOCK_V=min(BLOCK_V, triton.next_power_of_2(vocabulary)), num_warps=8,
        )  # fmt: skip
    return loss_C
