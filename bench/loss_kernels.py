"""The Triton kernels against their torch definitions and Liger-Kernel's fused linear JSD, on a GPU.

    python bench/loss_kernels.py --json
    TRITON_INTERPRET=1 python bench/loss_kernels.py --quick --json    # a CPU: that it runs

Forward and backward of 2,048 positions with a frozen teacher, bfloat16 hidden states and heads, at
vocabularies of 128 k and 152 k and hidden sizes of 2,048 and 4,096. A row holds median milliseconds
(interleaved) and peak memory above what was there. ``pip install liger-kernel`` for the peer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402 - the root is known now

from edgetune.ops import choose  # noqa: E402
from edgetune.ops.linear_loss import Head, linear_loss_sum  # noqa: E402
from edgetune.ops.sparse_loss import SparseTargets  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "loss_kernels.jsonl"


def make_runs(
    positions: int, vocabulary: int, hidden: int, device: str, dtype: torch.dtype
) -> dict[str, Callable[[], torch.Tensor]]:
    """Return what is compared; each gives its loss and leaves gradients behind."""
    torch.manual_seed(0)

    def draw(*shape: int, scale: float) -> torch.Tensor:
        return (scale * torch.randn(*shape, device=device)).to(dtype)

    states = draw(positions, hidden, scale=1.0).requires_grad_()
    weight = draw(vocabulary, hidden, scale=hidden**-0.5).requires_grad_()
    teacher_states, teacher_weight = (
        draw(positions, hidden, scale=1.0), draw(vocabulary, hidden, scale=3 * hidden**-0.5)
    )  # fmt: skip
    labels = torch.randint(0, vocabulary, (positions,), device=device)
    ids = torch.randint(0, vocabulary, (positions, 16), device=device)
    targets = SparseTargets(ids, torch.full((positions, 16), 1 / 16, device=device))
    teacher = Head(teacher_weight)

    def backward(loss: torch.Tensor) -> torch.Tensor:
        states.grad = weight.grad = None
        loss.backward()
        return loss.detach()

    def dense(impl: str, kind: str) -> Callable[[], torch.Tensor]:
        run = choose("dense_loss", impl, device).function
        return lambda: backward(
            linear_loss_sum(
                states, Head(weight),
                lambda z, a, b: run(z, teacher.logits(teacher_states[a:b]), kind, 0.5),
            ) / positions
        )  # fmt: skip

    def sparse(impl: str) -> Callable[[], torch.Tensor]:
        run = choose("sparse_loss", impl, device).function
        return lambda: backward(
            linear_loss_sum(
                states, Head(weight),
                lambda z, a, b: run(z, labels[a:b], targets.rows(a, b), 0.8),
            ) / positions
        )  # fmt: skip

    runs = {
        f"{kind} {impl}": dense(impl, kind)
        for kind in ("forward_kl", "jsd") for impl in ("torch", "triton")
    } | {f"sparse {impl}": sparse(impl) for impl in ("torch", "triton")}  # fmt: skip
    try:
        from liger_kernel.ops.fused_linear_jsd import LigerFusedLinearJSDFunction as Liger
    except ImportError:
        return runs
    for kind, beta in (("forward_kl", 0.0), ("jsd", 0.5)):
        runs[f"{kind} liger"] = lambda beta=beta: backward(  # type: ignore[misc]
            Liger.apply(states, weight, teacher_states, teacher_weight, None, beta)
        )
    return runs


def measure(run: Callable[[], torch.Tensor], device: str) -> tuple[float, int]:
    """Return seconds and peak bytes above the start."""
    before = 0
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    began = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter() - began, torch.cuda.max_memory_allocated() - before
    return time.perf_counter() - began, 0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; nothing is kept")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not args.quick:
        sys.exit("no GPU here; --quick with TRITON_INTERPRET=1 tries that it runs")
    sizes = [(2048, v, h) for v in (128_256, 151_936) for h in (2048, 4096)]
    if args.quick:
        sizes = [(5, 401, 32)]
    rows = []
    for positions, vocabulary, hidden in sizes:
        dtype = torch.float32 if args.quick else torch.bfloat16
        runs = make_runs(positions, vocabulary, hidden, device, dtype)
        found: dict[str, Any] = {name: {"s": [], "bytes": 0} for name in runs}
        losses = {}
        for name, run in list(runs.items()):
            try:
                losses[name] = float(run())  # also compiles
            except Exception as error:  # a peer that does not run here is told, not fatal
                if "liger" not in name:
                    raise
                found[name] = {"failed": f"{type(error).__name__}: {error}"[:200]}
                del runs[name]
        for _ in range(1 if args.quick else 9):
            for name, run in runs.items():
                seconds, peak = measure(run, device)
                found[name]["s"].append(seconds)
                found[name]["bytes"] = max(found[name]["bytes"], peak)
        for name in runs:
            found[name] = {
                "ms": 1e3 * statistics.median(found[name]["s"]),
                "peak_bytes": found[name]["bytes"], "loss": losses[name],
            }  # fmt: skip
        rows.append(
            {"positions": positions, "vocabulary": vocabulary, "hidden": hidden,
             "device": torch.cuda.get_device_name(0) if device == "cuda" else "cpu", **found}
        )  # fmt: skip
    if not args.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
