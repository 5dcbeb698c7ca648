"""The dtype that activations are computed in: the recipe's, or the one that is fast here."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from edgetune.artifact import SCRATCH
from edgetune.disk import write_atomic
from edgetune.models.hardware import name_machine

#: Tokens × rows × columns of the products that are timed: a linear layer of a 0.5 B model.
_SHAPE = (512, 1024, 2816)
_REPEATS = 5
_ROUNDS = 2  # of both dtypes, the faster counts: another process may disturb one
_SLOW_SECONDS = 0.1  # a product that takes this long is timed once
#: GPUs below it (T4: 7.5, RTX 20: 7.5, V100: 7.0) multiply bfloat16 as float32.
_BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class ComputeDtype:
    """The dtype of activations.

    Attributes:
        name: ``float32``, ``bfloat16`` or ``float16``.
        reason: why it is this one.
        flops: by dtype, the measured operations per second that decided; empty where none did.
    """

    name: str
    reason: str
    flops: Mapping[str, float] = field(default_factory=dict)


def choose_dtype(wanted: str, device: str) -> ComputeDtype:
    """Return the activation dtype for a recipe's ``model.compute_dtype``.

    ``auto`` is, on a CPU, the faster of float32 and bfloat16, measured once per machine: what the
    processor's flags promise is not what its kernels do. A Xeon with AVX512-BF16 and without AMX
    multiplies 160 GFLOP/s in bfloat16 and 308 in float32. On CUDA it is bfloat16 where the GPU
    computes it itself, else float16, which is trained with loss scaling.
    """
    if wanted != "auto":
        return ComputeDtype(wanted, "as the recipe says")
    if device == "cuda":
        capability = torch.cuda.get_device_capability()
        shown = f"a GPU of compute capability {capability[0]}.{capability[1]}"
        if capability >= _BFLOAT16_CAPABILITY:
            return ComputeDtype("bfloat16", f"{shown} computes it itself")
        return ComputeDtype("float16", f"{shown} does not compute bfloat16 itself")
    flops = find_rates()
    name = max(("bfloat16", "float32"), key=flops.__getitem__)
    rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {dtype}" for dtype, rate in flops.items())
    return ComputeDtype(name, rates, flops)


def keep_dtype(wanted: str, device: str, out: Path) -> ComputeDtype:
    """Return the activation dtype of a stage, which an interrupted one goes on with.

    Args:
        wanted: the recipe's ``model.compute_dtype``.
        device: ``cpu`` or ``cuda``.
        out: the stage's folder; the choice lies in its scratch until the stage is done.
    """
    path = out / SCRATCH / "compute_dtype"
    if path.is_file():
        return ComputeDtype(path.read_text(encoding="utf-8"), "as this stage began with")
    chosen = choose_dtype(wanted, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, chosen.name)
    return chosen


def find_rates() -> dict[str, float]:
    """Return the CPU's operations per second in float32 and bfloat16, measured once per machine.

    They are kept in ``edgetune/machine.json`` of the user's cache folder; where that cannot be read
    or written they are measured again.
    """
    path, machine = _cache_path(), name_machine()
    known = _read_cache(path)
    rates = known.get(machine)
    if rates is None:
        rates = measure_rates()
        if path is not None:
            with suppress(OSError):  # a home that is read-only, or full
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, json.dumps({**known, machine: rates}, indent=1))
    return rates


def measure_rates() -> dict[str, float]:
    """Return the CPU's operations per second in float32 and bfloat16."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    rounds = [
        {name: measure_flops("cpu", dtype) for name, dtype in dtypes.items()}
        for _ in range(_ROUNDS)
    ]
    return {name: max(rates[name] for rates in rounds) for name in dtypes}


def measure_flops(device: str, dtype: torch.dtype) -> float:
    """Return floating-point operations per second of a linear layer's product."""
    tokens, rows, columns = _SHAPE
    left = torch.randn(tokens, rows, device=device).to(dtype)
    right = torch.randn(rows, columns, device=device).to(dtype)
    seconds = median_seconds(lambda: left @ right, device)
    return 2.0 * tokens * rows * columns / seconds


def median_seconds(work: Callable[[], object], device: str) -> float:
    """Return the median seconds of a call, after one that warms up."""
    seconds: list[float] = []
    while len(seconds) <= (_REPEATS if min(seconds, default=0.0) < _SLOW_SECONDS else 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _cache_path() -> Path | None:
    """Return ``edgetune/machine.json`` in the user's cache folder; none without a home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if Path(named).is_absolute():
        return Path(named) / "edgetune" / "machine.json"
    try:
        return Path.home() / ".cache" / "edgetune" / "machine.json"
    except RuntimeError:
        return None


def _read_cache(path: Path | None) -> dict[str, dict[str, float]]:
    """Return rates by machine; of a file that is absent or damaged, what is whole."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {name: rates for name, rates in entries if _is_whole(rates)}


def _is_whole(rates: object) -> bool:
    return isinstance(rates, dict) and all(
        isinstance(rates.get(name), float) and rates[name] > 0 for name in ("float32", "bfloat16")
    )
