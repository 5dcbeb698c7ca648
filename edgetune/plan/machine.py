"""What this machine has and how fast it computes, measured in some tenths of a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from edgetune.models.compute_dtype import measure_flops, median_seconds
from edgetune.models.hardware import free_disk, read_ram

#: Of the memory that a run may take: the system and its page cache need the rest.
USABLE = 0.9
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
        float32_flops: of matrix products in float32 on the CPU, as files are measured and compared.
        bandwidth: bytes read and written by an elementwise operation.
        overhead: seconds that dispatching an operation takes.
    """

    device: str
    ram_bytes: int
    gpu_bytes: int
    disk_bytes: int
    flops: float
    float32_flops: float
    bandwidth: float
    overhead: float


def measure_machine(device: str, dtype: str, folder: Path) -> Machine:
    """Return this machine as a plan needs it.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: of activations.
        folder: where the run will lie; it need not exist.
    """
    gpu = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else 0
    return Machine(
        device=device,
        ram_bytes=read_ram(),
        gpu_bytes=int(gpu),
        disk_bytes=free_disk(folder),
        flops=measure_flops(device, getattr(torch, dtype)),
        float32_flops=measure_flops("cpu", torch.float32),
        bandwidth=_measure_bandwidth(device),
        overhead=_measure_overhead(device),
    )


def _measure_bandwidth(device: str) -> float:
    values = torch.ones(_STREAM_BYTES // 4, device=device)
    return 2.0 * _STREAM_BYTES / median_seconds(lambda: values * 2.0, device)


def _measure_overhead(device: str) -> float:
    value = torch.ones(1, device=device, requires_grad=True)
    return median_seconds(lambda: [value * 1.0 for _ in range(100)], device) / 100
