"""Operations with a definition in torch and, for some, a Triton kernel of the same signature.

:func:`choose` is asked once a stage which of the two runs; nothing is decided at import.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgetune.errors import InputError, nearest

#: Module and function of each operation; its kernel has the same names in edgetune_kernels.
OPS = {
    "sparse_loss": ("sparse_loss", "sparse_loss_"),
    "dense_loss": ("dense_loss", "dense_loss_"),
    "dequantize": ("dequantize", "dequantize"),
    "dequantize_nf4": ("dequantize", "dequantize_nf4"),
}
IMPLEMENTATIONS = ("auto", "torch", "triton")


@dataclass(frozen=True)
class Choice:
    """What runs.

    Attributes:
        function: the operation.
        impl: ``torch`` or ``triton``.
        why: for the log: what decided.
    """

    function: Callable[..., Any]
    impl: str
    why: str


def choose(op: str, impl: str = "auto", device: str = "cpu") -> Choice:
    """Return the implementation of ``op`` for tensors on ``device``.

    Args:
        op: a key of :data:`OPS`.
        impl: ``torch``, ``triton``, or ``auto``: the kernel wherever it can run.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: a kernel was asked for and cannot run here, or no such implementation.
    """
    if impl not in IMPLEMENTATIONS:
        raise InputError(
            f"no implementation '{impl}'{nearest(impl, IMPLEMENTATIONS)}", where=f"ops.{op}"
        )
    missing = _what_triton_lacks(device)
    if impl == "triton" and missing:
        raise InputError(
            f"the Triton kernel of {op} cannot run: {missing}",
            where=f"ops.{op}",
            hint="use auto or torch",
        )
    use_triton = impl == "triton" or (impl == "auto" and device == "cuda" and not missing)
    package = "edgetune_kernels" if use_triton else "edgetune.ops"
    module, name = OPS[op]
    function = getattr(importlib.import_module(f"{package}.{module}"), name)
    if use_triton:
        return Choice(function, "triton", "asked for" if impl == "triton" else "CUDA and triton")
    return Choice(function, "torch", "asked for" if impl == "torch" else missing or "on a CPU")


def _what_triton_lacks(device: str) -> str:
    """Say what keeps a Triton kernel from running, or nothing."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return "no CUDA device"
    return ""
