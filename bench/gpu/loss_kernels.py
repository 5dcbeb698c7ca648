"""The Triton kernels against float64 and against their torch definitions, values and gradients.

The errors are norms relative to float64's. A large shape is run again and again: a kernel whose
result on the same input changes has a race.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from edgetune.ops import choose
from edgetune.ops.dense_loss import KINDS
from edgetune.ops.linear_loss import Head, linear_loss_sum
from edgetune.ops.sparse_loss import SparseTargets

#: Positions, vocabulary, entries: none a multiple of a block, and the vocabularies of Llama 3 and
#: Qwen 2.5.
SIZES = (
    (1, 3, 2), (5, 41, 7), (7, 401, 16), (13, 1271, 33), (3, 4096, 64), (2, 4097, 255),
    (9, 32_003, 64), (5, 128_256, 20), (3, 151_936, 255),
)  # fmt: skip
SMALL = SIZES[:5]
#: Scales of the logits, and the largest error: float32 arithmetic is below, a wrong index or a race
#: is far above. With the last scale most probabilities underflow, and logits of 150 are rounded.
LIMITS = {3.0: 1e-4, 40.0: 1e-3}
NOT_A_NUMBER = 1e9  # stands for its error: JSON has no infinity
WEIGHT, TEMPERATURE, MIX = 0.7, 1.3, 0.3
REPEATED = (2048, 128_256, 64)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return ‖found − wanted‖ / ‖wanted‖.

    The norm is taken as at least a tenth a position: where two sharp distributions share nothing,
    the gradient of their JSD is smaller than the rounding of its terms.
    """
    if not bool(torch.isfinite(found).all()):
        return NOT_A_NUMBER
    least = 0.1 * len(wanted) ** 0.5
    return float((found.double() - wanted).norm() / wanted.norm().clamp(min=least))


def make_targets(positions: int, vocabulary: int, entries: int, tail: bool) -> SparseTargets:
    """Return random kept entries, float64; some of the first position's are padding."""
    entries = min(entries, vocabulary - 1)
    ids = torch.stack([torch.randperm(vocabulary)[:entries] for _ in range(positions)])
    share = torch.rand(positions, entries, dtype=torch.float64) + 0.01
    share[0, entries // 2 + 1 :] = 0
    left = torch.rand(positions, dtype=torch.float64) * 0.4 if tail else None
    whole = 1 - left if left is not None else torch.ones(positions, dtype=torch.float64)
    return SparseTargets(ids, share / share.sum(1, keepdim=True) * whole[:, None], left)


def moved(targets: SparseTargets | None, device: str, dtype: torch.dtype) -> SparseTargets | None:
    """Return the targets on a device, shares in ``dtype``."""
    if targets is None:
        return None
    ids, share, tail = targets
    return SparseTargets(
        ids.to(device), share.to(device, dtype), None if tail is None else tail.to(device, dtype)
    )


def exact_sparse(
    z: torch.Tensor, labels: torch.Tensor, targets: SparseTargets | None
) -> torch.Tensor:
    """Return the mixed loss [P] by its formula, for autograd to differentiate."""
    wrong = torch.nn.functional.cross_entropy(z, labels, reduction="none")
    if targets is None:
        return wrong
    ids, share, tail = targets
    log_q = (z / TEMPERATURE).log_softmax(-1).gather(1, ids)
    far = (-torch.special.entr(share) - share * log_q).sum(1)
    if tail is not None:
        left = 1 - (log_q.exp() * (share > 0)).sum(1)
        far = far - torch.special.entr(tail) - tail * left.log()
    return (1 - WEIGHT) * wrong + WEIGHT * TEMPERATURE**2 * far


def exact_dense(z: torch.Tensor, y: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the divergence [P] by its formula, in logarithms throughout."""
    log_q, log_p = (z / TEMPERATURE).log_softmax(-1), (y / TEMPERATURE).log_softmax(-1)
    log_m = torch.logaddexp(log_p + math.log(MIX), log_q + math.log(1 - MIX))
    q, p = log_q.exp(), log_p.exp()
    each = {
        "forward_kl": lambda: p * (log_p - log_q),
        "reverse_kl": lambda: q * (log_q - log_p),
        "jsd": lambda: MIX * p * (log_p - log_m) + (1 - MIX) * q * (log_q - log_m),
        "skewed_kl": lambda: p * (log_p - log_m),
    }[kind]()
    return TEMPERATURE**2 * each.sum(1)


def check_sparse(
    size: tuple[int, int, int], form: str, scale: float, device: str
) -> dict[str, float]:
    """Return the worse of the errors of loss and gradient, of the kernel and of the definition."""
    positions, vocabulary, entries = size
    torch.manual_seed(0)
    tail = form == "top-k"
    targets = None if form == "labels" else make_targets(positions, vocabulary, entries, tail)
    logits = (scale * torch.randn(positions, vocabulary)).to(device)
    labels = torch.randint(0, vocabulary, (positions,)).to(device)
    z = logits.double().requires_grad_()
    wanted = exact_sparse(z, labels, moved(targets, device, torch.float64))
    (slope,) = torch.autograd.grad(wanted.sum(), z)
    narrow = moved(targets, device, torch.float32)
    errors = {}
    for impl in ("triton", "torch"):
        buffer = logits.clone()
        run = choose("sparse_loss", impl, device).function
        loss = run(buffer, labels, narrow, WEIGHT, TEMPERATURE)
        errors[impl] = max(relative(loss, wanted.detach()), relative(buffer, slope))
    return errors


def check_dense(size: tuple[int, int], kind: str, scale: float, device: str) -> dict[str, float]:
    """Return the worse of the errors of loss and gradient, of the kernel and of the definition."""
    torch.manual_seed(0)
    logits, teacher = (scale * torch.randn(size)).to(device), (scale * torch.randn(size)).to(device)
    z = logits.double().requires_grad_()
    wanted = exact_dense(z, teacher.double(), kind)
    (slope,) = torch.autograd.grad(wanted.sum(), z)
    errors = {}
    for impl in ("triton", "torch"):
        buffer = logits.clone()
        run = choose("dense_loss", impl, device).function
        loss = run(buffer, teacher.clone(), kind, MIX, TEMPERATURE)
        errors[impl] = max(relative(loss, wanted.detach()), relative(buffer, slope))
    return errors


def repeat(shape: tuple[int, int, int], device: str, times: int) -> dict[str, Any]:
    """Run each kernel on the same input again; tell which results moved, and milliseconds."""
    positions, vocabulary, entries = shape
    torch.manual_seed(0)
    logits = 3 * torch.randn(positions, vocabulary, device=device)
    teacher = 3 * torch.randn(positions, vocabulary, device=device)
    labels = torch.randint(0, vocabulary, (positions,), device=device)
    targets = moved(make_targets(positions, vocabulary, entries, True), device, torch.float32)
    runs: dict[str, Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "labels": lambda impl, z, _: choose("sparse_loss", impl, device).function(z, labels, None),
        "top-k": lambda impl, z, _: choose("sparse_loss", impl, device).function(
            z, labels, targets, WEIGHT, TEMPERATURE
        ),
        "jsd": lambda impl, z, y: choose("dense_loss", impl, device).function(z, y, "jsd", MIX),
    }
    found: dict[str, Any] = {"shape": list(shape), "moved": [], "ms": {}}
    for name, run in runs.items():
        for impl in ("triton", "torch"):
            first: tuple[torch.Tensor, torch.Tensor] | None = None
            took = []
            for _ in range(times if impl == "triton" else max(2, times // 3)):
                buffer, other = logits.clone(), teacher.clone()
                loss, seconds = timed(lambda r=run, i=impl, b=buffer, o=other: r(i, b, o), device)
                took.append(seconds)
                if impl == "triton" and first is not None:
                    same = torch.equal(loss, first[0]) and torch.equal(buffer, first[1])
                    found["moved"] += [] if same or name in found["moved"] else [name]
                first = first or (loss, buffer)
            found["ms"][f"{name} {impl}"] = round(1e3 * statistics.median(took[1:]), 3)
    return found


def timed(run: Callable[[], torch.Tensor], device: str) -> tuple[torch.Tensor, float]:
    """Return a result and its seconds, by device events on a GPU."""
    if device != "cuda":
        began = time.perf_counter()
        return run(), time.perf_counter() - began
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    result = run()
    end.record()
    torch.cuda.synchronize()
    return result, start.elapsed_time(end) / 1e3


def check_linear(device: str) -> dict[str, float]:
    """Return the errors of the gradients through the head, bfloat16, kernel and definition."""
    torch.manual_seed(0)
    positions, hidden, vocabulary = 37, 72, 1271
    states = torch.randn(positions, hidden).to(device, torch.bfloat16)
    weight = (torch.randn(vocabulary, hidden) / hidden**0.5).to(device, torch.bfloat16)
    labels = torch.randint(0, vocabulary, (positions,)).to(device)
    exact = [states.double().requires_grad_(), weight.double().requires_grad_()]
    loss = torch.nn.functional.cross_entropy(exact[0] @ exact[1].T, labels, reduction="sum")
    wanted = torch.autograd.grad(loss, exact)
    found = {}
    for impl in ("triton", "torch"):
        run = choose("sparse_loss", impl, device).function
        leaves = [states.clone().requires_grad_(), weight.clone().requires_grad_()]
        total = linear_loss_sum(
            leaves[0], Head(leaves[1]), lambda z, a, b, run=run: run(z, labels[a:b], None)
        )
        gradients = torch.autograd.grad(total, leaves)
        found[impl] = max(relative(g, w) for g, w in zip(gradients, wanted, strict=True))
    return found


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true")
    cpu = parser.parse_args().cpu
    device = "cpu" if cpu else "cuda"
    faults, worst = [], {"triton": 0.0, "torch": 0.0}
    if not cpu and (chosen := choose("sparse_loss", "auto", device).impl) != "triton":
        faults.append(f"auto chose {chosen} on cuda")
    checked = 0
    for size in SMALL if cpu else SIZES:
        for scale, limit in LIMITS.items():
            # With sharp distributions float32 cannot say what 1 − Σ q of the kept tokens is.
            forms = ("labels", "sample", "top-k") if scale < 10 else ("labels", "sample")
            cases = [(form, check_sparse(size, form, scale, device)) for form in forms]
            cases += [(kind, check_dense(size[:2], kind, scale, device)) for kind in KINDS]
            for name, errors in cases:
                checked += 1
                for impl, error in errors.items():
                    worst[impl] = max(worst[impl], error)
                    if error > limit:
                        faults.append(f"{impl} {name} {size} x{scale:g}: {error:.1e}")
    linear = check_linear(device)
    faults += [f"{impl} through the head: {e:.1e}" for impl, e in linear.items() if e > 1e-2]
    again = repeat((7, 1271, 16) if cpu else REPEATED, device, 3 if cpu else 12)
    faults += [f"{name} moves between runs: a race" for name in again["moved"]]
    print(json.dumps({
        "faults": faults, "cases": checked, "worst_relative_error": worst,
        "through_the_head_bf16": linear, "repeated": again,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
