"""Cross-entropy mixed with forward KL to a sparse teacher: loss and gradient of a row in place.

One program a position. It reads its row of logits once for the two softmax sums, and once more to
put the gradient there. The definition: edgetune.ops.sparse_loss.sparse_loss_.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

BLOCK_V = 4096  # logits a program holds at a time


@triton.jit
def _sparse_loss_kernel(
    logits_ptr, row_stride, labels_ptr, ids_ptr, share_ptr, tail_ptr, loss_ptr,
    vocabulary, entries, kl_weight, temperature,
    HAS_TARGETS: tl.constexpr, HAS_TAIL: tl.constexpr, BLOCK_V: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * row_stride
    columns = tl.arange(0, BLOCK_V)

    # 1. Largest logit and the sums of exp(z − max) and exp((z − max) / τ).
    largest = -float("inf")
    sharp = 0.0
    soft = 0.0
    for start in range(0, vocabulary, BLOCK_V):
        inside = start + columns < vocabulary
        z = tl.load(logits_ptr + start + columns, mask=inside, other=-float("inf")).to(tl.float32)
        above = tl.maximum(largest, tl.max(z, 0))
        gone = tl.exp(largest - above)
        gone_soft = tl.exp((largest - above) / temperature)
        sharp = sharp * gone + tl.sum(tl.exp(z - above), 0)
        soft = soft * gone_soft + tl.sum(tl.exp((z - above) / temperature), 0)
        largest = above
    log_sharp = largest + tl.log(sharp)
    log_soft = largest / temperature + tl.log(soft)

    # 2. The losses, from the few logits they look at.
    label = tl.load(labels_ptr + row)
    z_label = tl.load(logits_ptr + label).to(tl.float32)
    loss = log_sharp - z_label
    ce_weight = 1.0
    factor = 0.0
    if HAS_TARGETS:
        ce_weight = 1.0 - kl_weight
        slots = tl.arange(0, BLOCK_K)
        filled = slots < entries
        ids = tl.load(ids_ptr + row * entries + slots, mask=filled, other=0)
        share = tl.load(share_ptr + row * entries + slots, mask=filled, other=0.0)
        z_kept = tl.load(logits_ptr + ids, mask=filled, other=0.0).to(tl.float32)
        log_q = tl.maximum(z_kept / temperature - log_soft, -1e30)
        kept = share > 0
        log_p = tl.log(tl.where(kept, share, 1.0))
        kl = tl.sum(tl.where(kept, share * (log_p - log_q), 0.0), 0)
        factor = 1.0
        back = tl.zeros_like(share)
        if HAS_TAIL:
            tail = tl.load(tail_ptr + row)
            # What is left for other tokens is their sum: 1 − Σ kept is rounding where it is small.
            # So the kept ones are out of the row while it is summed, once every warp has read
            # its logits.
            tl.debug_barrier()
            tl.store(logits_ptr + ids, tl.full(ids.shape, -float("inf"), tl.float32), mask=kept)
            tl.debug_barrier()
            left = 0.0
            for start in range(0, vocabulary, BLOCK_V):
                inside = start + columns < vocabulary
                z = tl.load(logits_ptr + start + columns, mask=inside, other=-float("inf"))
                left += tl.sum(tl.exp(z.to(tl.float32) / temperature - log_soft), 0)
            left = tl.maximum(left, 1e-30)
            tl.debug_barrier()
            tl.store(logits_ptr + ids, z_kept, mask=kept)
            tl.debug_barrier()
            kl += tl.where(
                tail > 0, tail * (tl.log(tl.where(tail > 0, tail, 1.0)) - tl.log(left)), 0.0
            )
            factor = 1.0 - tail / left
            back = tl.where(kept, tl.exp(log_q), 0.0)
        change = kl_weight * temperature * (back - share)
        loss = ce_weight * loss + kl_weight * temperature * temperature * kl
    tl.store(loss_ptr + row, loss)

    # 3. The gradient: what every logit gets …  No warp may write its columns while another one has
    # yet to read its label's or kept tokens' logits; the sums above need no barrier where the kept
    # tokens fit one warp.
    tl.debug_barrier()
    for start in range(0, vocabulary, BLOCK_V):
        inside = start + columns < vocabulary
        z = tl.load(logits_ptr + start + columns, mask=inside, other=-float("inf")).to(tl.float32)
        gradient = ce_weight * tl.exp(z - log_sharp)
        if HAS_TARGETS:
            gradient += kl_weight * temperature * factor * tl.exp(z / temperature - log_soft)
        tl.store(logits_ptr + start + columns, gradient, mask=inside)
    # … and, when all of the row is written, what the label and the kept tokens get beside.
    tl.debug_barrier()
    at_label = tl.load(logits_ptr + label)
    tl.store(logits_ptr + label, at_label - ce_weight)
    if HAS_TARGETS:
        tl.debug_barrier()
        if HAS_TAIL:  # q, not factor · q: a factor that is large would leave nothing of q
            here = ce_weight * tl.exp(z_kept - log_sharp)
            here -= tl.where(ids == label, ce_weight, 0.0)
        else:
            here = tl.load(logits_ptr + ids, mask=filled & kept, other=0.0)
        tl.store(logits_ptr + ids, here + change, mask=filled & kept)


def sparse_loss_(
    logits_CV: torch.Tensor,
    labels_C: torch.Tensor,
    targets: Any,
    kl_weight: float = 1.0,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return the loss [C], float32, and leave the gradient in place of the float32 logits.

    ``targets`` is ``(ids [C, K], share [C, K], tail [C] or None)``, or none for cross-entropy.
    """
    positions, vocabulary = logits_CV.shape
    loss_C = torch.empty(positions, dtype=torch.float32, device=logits_CV.device)
    if not positions:
        return loss_C
    ids, share, tail = targets if targets is not None else (labels_C, loss_C, None)
    ids, share = ids.contiguous(), share.contiguous()
    entries = ids.shape[1] if targets is not None else 1
    _sparse_loss_kernel[(positions,)](
        logits_CV, logits_CV.stride(0), labels_C, ids, share, tail if tail is not None else loss_C,
        loss_C, vocabulary, entries, float(kl_weight), float(temperature),
        HAS_TARGETS=targets is not None, HAS_TAIL=tail is not None,
        BLOCK_V=min(BLOCK_V, triton.next_power_of_2(vocabulary)),
        BLOCK_K=triton.next_power_of_2(entries), num_warps=8,
    )  # fmt: skip
    return loss_C
