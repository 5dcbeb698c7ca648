"""Which formats this installation runs on a GPU, and what it takes to run the others there."""

from __future__ import annotations

#: What each format needs for a GPU, by the names of packages and build flags.
REMEDIES = {
    "hf": "install a CUDA build of torch, and NVIDIA's driver",
    "gguf": "reinstall llama-cpp-python with CMAKE_ARGS=-DGGML_CUDA=on (it needs the CUDA toolkit)",
    "onnx": "install onnxruntime-gpu in place of onnxruntime",
}
PROVIDER = "CUDAExecutionProvider"


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
    import gc
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    gc.collect()
    torch.cuda.empty_cache()
