"""Which formats this installation runs on a GPU, and what it takes to run the others there."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgetune.log import Log
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.hardware import choose_device
from edgetune.models.ref import ModelRef

if TYPE_CHECKING:
    from edgetune.runtimes import Runtime

#: What each format needs for a GPU, by the names of packages and build flags.
REMEDIES = {
    "hf": "install a CUDA build of torch, and NVIDIA's driver",
    "gguf": "reinstall llama-cpp-python with CMAKE_ARGS=-DGGML_CUDA=on (it needs the CUDA toolkit)",
    "onnx": "install onnxruntime-gpu instead of onnxruntime",
}
PROVIDER = "CUDAExecutionProvider"
_FILLED = 0.9  # of what is free, the most that weights take: activations need room too


def find_gpu_fault(kind: str) -> str | None:
    """Return why models of a format cannot run on a GPU here; nothing where they can.

    Args:
        kind: ``hf``, ``gguf`` or ``onnx``.
    """
    if kind == "gguf":
        from llama_cpp import llama_cpp

        return None if llama_cpp.llama_supports_gpu_offload() else _NO_OFFLOAD
    if kind == "onnx":
        import onnxruntime

        return None if PROVIDER in onnxruntime.get_available_providers() else _NO_PROVIDER
    import torch

    return None if torch.cuda.is_available() else "torch sees no CUDA device"


_NO_OFFLOAD = "this build of llama.cpp has no GPU support"
_NO_PROVIDER = f"this build of onnxruntime has no {PROVIDER}"


def has_gpu() -> bool:
    """Return whether torch sees a CUDA device."""
    return find_gpu_fault("hf") is None


def release_gpu_pool() -> None:
    """Give the GPU memory that torch keeps for later use back, before another process loads there.

    What live tensors hold stays, as does the CUDA context of this process. Where torch was never
    imported or never used a GPU, nothing happens.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    gc.collect()
    torch.cuda.empty_cache()


def choose_float32_device(wanted: str, folder: Path, copies: int, log: Log) -> str:
    """Return the device of a measurement in float32: the GPU where the model fits it, else the CPU.

    Args:
        wanted: the recipe's ``model.device``.
        folder: the model.
        copies: how often its weights have to fit.
        log: is told why the GPU is not used.

    Raises:
        InputError: CUDA is asked for and absent.
    """
    if choose_device(wanted) == "cpu":
        return "cpu"
    import psutil
    import torch

    weights = 4 * Checkpoint(folder).count
    for name, needed, free in (
        ("the GPU", copies * weights, torch.cuda.mem_get_info()[0]),
        ("memory", 4 * weights, psutil.virtual_memory().total),  # it is unpacked there first
    ):
        if needed > _FILLED * free:
            log.say(
                f"computed on the CPU: float32 weights of {weights / 1e9:.1f} GB need "
                f"{needed / 1e9:.1f} of the {free / 1e9:.1f} GB of {name}"
            )
            return "cpu"
    return "cuda"


def open_float32(model: ModelRef, threads: int, device: str) -> Runtime:
    """Load a model in float32, so that it is on a GPU what it is on the CPU but for rounding.

    A large one on the CPU is read from disk as it computes: :func:`edgetune.runtimes.open_trained`.
    """
    if device == "cpu":
        from edgetune.runtimes import open_trained

        return open_trained(model, threads)
    from edgetune.runtimes.pytorch import Torch

    return Torch(model, threads, device, dtype="float32")
