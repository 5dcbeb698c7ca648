"""Divergences between whole distributions: loss and gradient of a row in place.

One program a position, three passes over both rows: the softmax sums, the divergence with the mean
of its slope, the gradient. The definition: edgetune.ops.dense_loss.dense_loss_.
"""

from __future__ import annotations

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
def _parts(student_ptr, teacher_ptr, at, inside, norm_q, norm_p, mix, temperature,
           KIND: tl.constexpr):  # fmt: skip
    """q, the divergence's terms, and its slope by q, of a block; 0 outside the vocabulary."""
    z = tl.load(student_ptr + at, mask=inside, other=0.0).to(tl.float32) / temperature
    y = tl.load(teacher_ptr + at, mask=inside, other=0.0).to(tl.float32) / temperature
    log_q = z - norm_q
    log_p = y - norm_p
    q = tl.exp(log_q)
    p = tl.exp(log_p)
    if KIND == 0:
        term = p * (log_p - log_q)
        slope = -p / q  # not used: the gradient is q − p
    elif KIND == 1:
        slope = log_q - log_p
        term = q * slope
    else:
        m = mix * p + (1.0 - mix) * q
        log_m = tl.log(m)
        if KIND == 2:
            slope = (1.0 - mix) * (log_q - log_m)
            term = mix * p * (log_p - log_m) + q * slope
        else:
            slope = (mix - 1.0) * p / m
            term = p * (log_p - log_m)
    return tl.where(inside, q, 0.0), p, tl.where(inside, term, 0.0), slope


@triton.jit
def _dense_loss_kernel(
    student_ptr, student_stride, teacher_ptr, teacher_stride, loss_ptr, vocabulary, mix,
    temperature, KIND: tl.constexpr, BLOCK_V: tl.constexpr,
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
        q, _p, term, slope = _parts(
            student_ptr, teacher_ptr, at, inside, norm_q, norm_p, mix, temperature, KIND
        )
        loss += tl.sum(term, 0)
        if KIND != 0:
            mean += tl.sum(tl.where(inside, q * slope, 0.0), 0)
    tl.store(loss_ptr + row, loss * temperature * temperature)
    for start in range(0, vocabulary, BLOCK_V):
        at = start + columns
        inside = at < vocabulary
        q, p, _term, slope = _parts(
            student_ptr, teacher_ptr, at, inside, norm_q, norm_p, mix, temperature, KIND
        )
        gradient = q - p if KIND == 0 else q * (slope - mean)
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
    positions, vocabulary = logits_CV.shape
    loss_C = torch.empty(positions, dtype=torch.float32, device=logits_CV.device)
    if positions:
        _dense_loss_kernel[(positions,)](
            logits_CV, logits_CV.stride(0), teacher_CV, teacher_CV.stride(0), loss_C, vocabulary,
            float(mix), float(temperature), KIND=_KINDS[kind],
            BLOCK_V=min(BLOCK_V, triton.next_power_of_2(vocabulary)), num_warps=8,
        )  # fmt: skip
    return loss_C
