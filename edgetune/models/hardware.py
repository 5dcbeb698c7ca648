"""What this machine can do: device, threads, memory."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from edgetune.errors import InputError

_M_MMAP_THRESHOLD, _MAPPED_BYTES = -3, 1 << 20
#: Four micro-batches of 512 tokens through a 0.5 B shape: peak 4.36 GB as malloc does by itself,
#: 3.65 held at 4 MiB (CPU seconds 50 and 54), 3.26 at 1 MiB (57).
TRAINING_BLOCK_BYTES = 4 << 20


def count_threads() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(wanted: str) -> str:
    """Return ``cpu`` or ``cuda`` for a recipe's ``model.device``.

    Raises:
        InputError: CUDA was asked for and is not there.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "no CUDA device on this machine", where="model.device", hint="use auto or cpu"
        )
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def refuse_several_devices(trains: bool, device: str) -> None:
    """Refuse a launch over several processes, and training with several visible GPUs.

    Each of several processes would write the same run, and transformers' trainer spreads a batch
    over all GPUs it sees (torch's DataParallel): a batch would no longer be ``batch_size`` rows.

    Args:
        trains: whether a model is going to be trained.
        device: the recipe's ``model.device``.

    Raises:
        InputError: it names what to set.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size not in ("", "1"):
        raise InputError(
            f"this is one of {size} processes (WORLD_SIZE), as torchrun and accelerate start them; "
            "edgetune trains on one device yet",
            where="environment",
            hint="call `edgetune` itself, or unset WORLD_SIZE",
        )
    if trains and device != "cpu" and (count := count_gpus()) > 1:
        raise InputError(
            f"{count} GPUs are visible, and edgetune trains on one yet",
            where="model.device",
            hint="set CUDA_VISIBLE_DEVICES=0 (or the number of another one)",
        )


def count_gpus() -> int:
    """Return how many GPUs torch sees; torch is imported only where the system has any."""
    if not any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")):
        return 0
    import torch

    return torch.cuda.device_count()


def cpu_flags() -> set[str]:
    """Return the CPU's feature flags (Linux on x86; empty elsewhere)."""
    for line in _cpuinfo():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def cpu_features() -> list[str]:
    """Return the flags of :func:`cpu_flags` that kernels for matrix products ask for."""
    return sorted(
        cpu_flags() & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}
    )


def name_machine() -> str:
    """Return what the speed of its dtypes depends on: processor, features, cores and torch.

    Processors of one name differ in features: virtual machines call many of them alike.
    """
    parts = [processor_name(), *cpu_features(), f"{count_threads()} cores"]
    return ", ".join([*parts, f"torch {metadata.version('torch')}"])


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, GPU and versions, for the report."""
    import psutil

    names = ("torch", "transformers", "peft", "bitsandbytes", "trl", "onnxruntime",
             "onnxruntime-genai", "llama-cpp-python", "edgetune")  # fmt: skip
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": processor_name(),
        "cores": count_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "features": cpu_features(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def trim_malloc(block_bytes: int = _MAPPED_BYTES) -> None:
    """Give freed memory back to the system, and have large blocks go back as they are freed.

    glibc's malloc raises the size from which blocks are mapped on their own up to 32 MB as blocks
    are freed (mallopt(3), M_MMAP_THRESHOLD); smaller ones then come from a heap whose holes stay in
    memory. Passing 500 M offloaded weights through a process grew it by 2.8 GB, and does not with
    the size held. A newly mapped block costs its page faults; training, which makes the same
    activations again and again, holds it at :data:`TRAINING_BLOCK_BYTES`.

    Args:
        block_bytes: from which blocks are mapped; at most 32 MiB.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, block_bytes)
    return_freed_memory()


def return_freed_memory() -> None:
    """Give the memory that was freed back to the system, once."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def read_ram() -> int:
    """Return the bytes of memory, or of the control group's limit where that is lower."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory


def free_disk(folder: Path) -> int:
    """Return the free bytes of the disk under ``folder``, which need not exist."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise :class:`InputError` when the disk under ``folder`` has less than ``needed`` bytes."""
    free = free_disk(folder)
    if free < needed:
        raise InputError(
            f"{what} needs {needed / 1e6:,.0f} MB of disk, {free / 1e6:,.0f} MB are free",
            where=str(folder),
            hint="make room or choose another --out",
        )


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def processor_name() -> str:
    """Return the processor's name as the system tells it."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
