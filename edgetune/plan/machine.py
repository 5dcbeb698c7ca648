"""What this machine has and how fast it computes, measured in some tenths of a second."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

#: Tokens × rows × columns of the products that are timed: a linear layer of a 0.5 B model.
_SHAPE = (512, 1024, 2816)
_REPEATS = 5
_STREAM_BYTES = 8 << 20  # as the activations of a few hundred tokens


@dataclass(frozen=True)
class Machine:
    """Memory in bytes, rates per second.

    Attributes:
        device: ``cpu`` or ``cuda``, where models are trained.
        ram_bytes: of the machine (or of the control group this process runs in).
        gpu_bytes: of the GPU; 0 without one.
        disk_bytes: free where the run lies.
        flops: of matrix products in the compute dtype.
        bandwidth: bytes read and written by an elementwise operation.
        overhead: seconds that dispatching an operation takes.
    """

    device: str
    ram_bytes: int
    gpu_bytes: int
    disk_bytes: int
    flops: float
    bandwidth: float
    overhead: float


def measure_machine(device: str, dtype: str, folder: Path) -> Machine:
    """Return this machine as a plan needs it.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: of activations.
        folder: where the run will lie; it need not exist.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    gpu = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else 0
    return Machine(
        device=device,
        ram_bytes=read_ram(),
        gpu_bytes=int(gpu),
        disk_bytes=shutil.disk_usage(existing).free,
        flops=measure_flops(device, getattr(torch, dtype)),
        bandwidth=_measure_bandwidth(device),
        overhead=_measure_overhead(device),
    )


def read_ram() -> int:
    """Return the bytes of memory, or of the control group's limit where that is lower."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory


def measure_flops(device: str, dtype: torch.dtype) -> float:
    """Return floating-point operations per second of a linear layer's product."""
    tokens, rows, columns = _SHAPE
    left = torch.randn(tokens, rows, device=device).to(dtype)
    right = torch.randn(rows, columns, device=device).to(dtype)
    seconds = _time(lambda: left @ right, device)
    return 2.0 * tokens * rows * columns / seconds


def _measure_bandwidth(device: str) -> float:
    values = torch.ones(_STREAM_BYTES // 4, device=device)
    return 2.0 * _STREAM_BYTES / _time(lambda: values * 2.0, device)


def _measure_overhead(device: str) -> float:
    value = torch.ones(1, device=device, requires_grad=True)
    return _time(lambda: [value * 1.0 for _ in range(100)], device) / 100


def _time(work: object, device: str) -> float:
    """Return the median seconds of a call, after one that warms up."""
    assert callable(work)
    seconds = []
    for _ in range(_REPEATS + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
