"""The importance matrix: how much each input channel of each weight matters on the user's own data.

A rounding error in column j of a weight changes its output by error x input_j, so the squared error
is weighed by the mean of input_j squared over the calibration tokens, as llama.cpp's ``imatrix``
tool does. The file is in its GGUF format (tools/imatrix/README.md, ``general.type: imatrix``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import (
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGUFReader,
    GGUFWriter,
    TensorNameMap,
    get_tensor_name_map,
)

from edgetune.errors import InputError
from edgetune.log import Log

if TYPE_CHECKING:
    from torch import Tensor

SUMS, COUNTS = ".in_sum2", ".counts"


@dataclass
class InputEnergy:
    """Sums of squared inputs of a model's linear layers.

    Attributes:
        sums: module name to float64 ``[in_features]``.
        counts: module name to the number of tokens summed.
        sequences: how many sequences were read, and ``longest`` the tokens of the longest.
    """

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    sequences: int = 0
    longest: int = 0


def measure_inputs(model: Any, sequences: Sequence[Sequence[int]], log: Log) -> InputEnergy:
    """Run the model over token sequences and sum the squared inputs of every linear layer.

    Raises:
        InputError: there is no sequence, or a layer's input is NaN or infinite.
    """
    import torch

    energy = InputEnergy()
    with (
        torch.inference_mode(),
        _hooks(model, energy),
        log.progress("importance", len(sequences)) as bar,
    ):
        for ids in sequences:
            model(torch.tensor([list(ids)], device=model.device), use_cache=False)
            energy.sequences += 1
            energy.longest = max(energy.longest, len(ids))
            bar.update()
    if not energy.sums:
        raise InputError("there is nothing to calibrate on", hint="quantize.imatrix: false")
    for name, sums in energy.sums.items():
        if not np.isfinite(sums).all():
            raise InputError("the inputs of this layer are NaN or infinite", where=name)
    return energy


def name_for_gguf(energy: InputEnergy, architecture: str, blocks: int, tied: bool) -> InputEnergy:
    """Rename modules to the GGUF tensors their weights became; those without one are left out.

    Args:
        energy: by module name.
        architecture: llama.cpp's name, such as ``llama``.
        blocks: how many layers the model has.
        tied: embedding and head are one tensor; the head's inputs weigh it then.
    """
    names = name_map(architecture, blocks)
    renamed = InputEnergy(sequences=energy.sequences, longest=energy.longest)
    for module, sums in energy.sums.items():
        name = names.get_name(module)
        if name is None:
            continue
        tensor = "token_embd.weight" if tied and name == "output" else f"{name}.weight"
        renamed.sums[tensor], renamed.counts[tensor] = sums, energy.counts[module]
    return renamed


def write_imatrix(energy: InputEnergy, path: Path, dataset: str) -> None:
    """Write the sums in llama.cpp's format; ``dataset`` names what they were measured on."""
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [dataset])
    writer.add_uint32("imatrix.chunk_count", energy.sequences)
    writer.add_uint32("imatrix.chunk_size", energy.longest)
    for name in sorted(energy.sums):
        writer.add_tensor(name + SUMS, energy.sums[name].astype(np.float32)[None, :])
        writer.add_tensor(name + COUNTS, np.array([[energy.counts[name]]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_imatrix(path: Path) -> dict[str, np.ndarray]:
    """Return tensor name to the mean squared input of each column, float32.

    Raises:
        InputError: not an importance matrix.
    """
    try:
        tensors = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    except (OSError, ValueError) as error:
        raise InputError(f"not an importance matrix: {error}", where=str(path)) from error
    names = [name.removesuffix(SUMS) for name in tensors if name.endswith(SUMS)]
    if not names:
        raise InputError("not an importance matrix: no sums in it", where=str(path))
    return {
        name: np.ascontiguousarray(tensors[name + SUMS][0] / tensors[name + COUNTS][0, 0])
        for name in names
    }


@contextmanager
def _hooks(model: Any, energy: InputEnergy) -> Iterator[None]:
    """Add each linear layer's squared inputs to ``energy`` while the context is open."""
    import torch
    from transformers.pytorch_utils import Conv1D

    def watch(name: str) -> Any:
        def add(_: Any, inputs: tuple[Tensor, ...]) -> None:
            flat = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
            sums = flat.square().sum(0, dtype=torch.float64).cpu().numpy()
            energy.sums[name] = energy.sums.get(name, 0.0) + sums
            energy.counts[name] = energy.counts.get(name, 0) + len(flat)

        return add

    handles = [
        module.register_forward_pre_hook(watch(name))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def name_map(architecture: str, blocks: int) -> TensorNameMap:
    """Return llama.cpp's table from module names to tensor names."""
    numbers = {name: number for number, name in MODEL_ARCH_NAMES.items()}
    return get_tensor_name_map(numbers.get(architecture, MODEL_ARCH.LLAMA), blocks)
