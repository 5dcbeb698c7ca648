"""Devices that bench measures on: those of Hugging Face models and those of files."""

from __future__ import annotations

from dataclasses import dataclass

from edgetune.errors import InputError
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.hardware import choose_device, read_ram
from edgetune.models.ref import ModelRef
from edgetune.recipe import BenchSection
from edgetune.runtimes.gpu import has_gpu

FILLED = 0.8  # of the memory, the most that weights take
_DTYPES = {"BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Devices:
    """Where models are measured, in this order.

    Attributes:
        models: devices of Hugging Face models; the first one's log probabilities are the reference.
        files: devices of GGUF files and ONNX folders.
    """

    models: tuple[str, ...] = ("cpu",)
    files: tuple[str, ...] = ("cpu",)

    def of(self, kind: str) -> tuple[str, ...]:
        """Return the devices of a format: ``hf``, ``gguf`` or ``onnx``."""
        return self.models if kind == "hf" else self.files


def choose_devices(section: BenchSection, model_device: str) -> Devices:
    """Return the devices of a recipe's ``bench.devices``.

    ``auto`` is the CPU, and the GPU where there is one; ``model.device: cpu`` leaves the GPU out,
    and ``model.device: cuda`` measures Hugging Face models on it alone: in float32 on a CPU a large
    one takes twice its file in memory.

    Args:
        section: bench's settings.
        model_device: the recipe's ``model.device``.

    Raises:
        InputError: a device is asked for and absent.
    """
    wanted = section.devices
    if wanted != "auto":
        chosen = tuple(dict.fromkeys(wanted))
        if "cuda" in chosen and not has_gpu():
            raise InputError(
                "no CUDA device on this machine",
                where="bench.devices",
                hint="use auto or [cpu]; `edgetune doctor` says what a GPU needs",
            )
        return Devices(chosen, chosen)
    if choose_device(model_device) == "cpu":
        return Devices()
    both = ("cpu", "cuda")
    return Devices(("cuda",) if model_device == "cuda" else both, both)


def find_narrow_dtype(model: ModelRef, device: str) -> str | None:
    """Return the dtype of a model whose float32 weights do not fit this machine's memory.

    It is the checkpoint's own, bfloat16 where that is float32; none where float32 fits, on a GPU,
    which has a dtype of its own, and for NF4 weights, which stay in 4 bits then.
    """
    if device != "cpu" or model.nf4:
        return None
    checkpoint = Checkpoint(model.base)
    if 4 * checkpoint.count <= FILLED * read_ram():
        return None
    stored = [header.dtype for header in checkpoint.headers.values() if len(header.shape) > 1]
    return _DTYPES.get(max(set(stored), key=stored.count), "bfloat16")
