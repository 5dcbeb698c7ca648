"""OPTIMIZERS: what updates the weights, one row each. The recipe's choices are the names."""

from __future__ import annotations

from dataclasses import dataclass

from edgetune.errors import InputError


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of transformers.

    Attributes:
        state_bytes: kept per trained weight, in bytes. Of 8 bits: two moments, and a float32 scale
            of each per 256 weights (Dettmers et al. 2021, arXiv 2110.02861, section 2).
        paged: the state is unified memory, which moves to RAM where the GPU's runs short; CUDA only
            (Dettmers et al. 2023, arXiv 2305.14314, section 3).
    """

    state_bytes: float
    paged: bool = False


_ADAM, _ADAM_8BIT = 8.0, 2 * (1 + 4 / 256)
OPTIMIZERS: dict[str, Optimizer] = {
    "adamw_torch_fused": Optimizer(_ADAM),
    "adamw_torch": Optimizer(_ADAM),
    "adamw_8bit": Optimizer(_ADAM_8BIT),
    "paged_adamw_8bit": Optimizer(_ADAM_8BIT, paged=True),
    "paged_adamw_32bit": Optimizer(_ADAM, paged=True),
    # A mean per row and per column: the factors of rank 16 or more take this at most (Shazeer and
    # Stern 2018, arXiv 1804.04235, section 3).
    "adafactor": Optimizer(4 / 16),
    "sgd": Optimizer(0.0),
}


def check_optimizer(name: str, device: str, where: str) -> None:
    """Refuse an optimizer that the device has no memory for.

    Args:
        name: of :data:`OPTIMIZERS`.
        device: ``cpu`` or ``cuda``.
        where: the recipe's key.

    Raises:
        InputError: a paged one on a CPU, where bitsandbytes would warn and page nothing.
    """
    if OPTIMIZERS[name].paged and device != "cuda":
        raise InputError(
            f"{name} pages between the memory of a GPU and of the machine, and training is on the "
            "CPU",
            where=where,
            hint="use adamw_8bit for a small state, or adamw_torch_fused",
        )
