"""Which tuning suits a model: 4-bit weights pay where they save much."""

from __future__ import annotations

import math
import re

from edgetune.log import bytes_text
from edgetune.models.shape import Shape

#: Below that, what NF4 takes of a model's quality (9 % of a weight's norm) buys nothing: a training
#: on a CPU unpacks such weights anyway.
WORTH_BYTES = 500_000_000
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.\d+\.")


def saved_by_nf4(shape: Shape) -> int:
    """Return the bytes that 4 bits per weight save over 16, in the matrices that NF4 holds."""
    counts = (
        math.prod(size)
        for name, size in shape.tensors.items()
        if len(size) == 2 and _LAYER.search(name)
    )
    return sum(counts) * 3 // 2


def propose_method(shape: Shape) -> tuple[str, str]:
    """Return ``qlora`` or ``lora``, and why."""
    saved = saved_by_nf4(shape)
    if shape.packed or saved >= WORTH_BYTES:
        return "qlora", f"an adapter over 4-bit weights, which save {bytes_text(saved)}"
    return "lora", f"an adapter; 4-bit weights (qlora) would save {bytes_text(saved)}"
