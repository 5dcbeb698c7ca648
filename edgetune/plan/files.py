"""What files of a model take: on disk, while they are written, and in their runtimes."""

from __future__ import annotations

from edgetune.models.offload import IN_MEMORY_BYTES
from edgetune.plan.shape import Shape

#: Bits per weight of the files, as they come out for a model of some hundred million weights.
BITS = {
    "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.56, "Q5_K_M": 5.7,
    "Q4_K_M": 4.9, "Q4_0": 4.6, "Q3_K_M": 4.0, "fp32": 32.0, "fp16": 16.0, "int8": 8.6, "int4": 5.0,
}  # fmt: skip
_QUANT_BITS = {"int4": 4, "int8": 8}


def making_bytes(name: str) -> float:
    """Return what a weight of the largest tensor takes while it is written.

    It is there in float32, beside what it becomes: 8 bits and a scale in a head, whatever the
    layers become.
    """
    return {"fp32": 4.0, "F32": 4.0, "fp16": 6.0, "F16": 6.0, "BF16": 6.0}.get(name, 5.06)


def loaded_bytes(name: str, shape: Shape) -> float:
    """Return what a runtime holds of a file at its peak.

    llama.cpp reads it and packs it anew for the processor. ONNX Runtime keeps blocks packed, three
    float32 beside each 32 weights, and maps the head until it is packed; it widens float16 as it
    loads.
    """
    weights = shape.linear + shape.head
    if name in _QUANT_BITS:
        return (_QUANT_BITS[name] / 8 + 12 / 32) * weights + 1.06 * shape.head
    if name in ("fp16", "fp32"):
        return 4.0 * (weights + shape.head)
    return BITS[name] / 8 * shape.total


def reference_bytes(shape: Shape) -> int:
    """Return what a model to compare with takes: a large one, a layer at a time and the head."""
    whole = 4 * shape.total
    return whole if whole <= IN_MEMORY_BYTES else 8 * shape.layer + 2 * shape.head
