"""The matrices of a loaded model, under the names that a file gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgetune.models.layers import find_layers
from edgetune.models.parameters import own_names, read_parameter
from edgetune.quantize.calibration.activations import ActivationStats
from edgetune.quantize.calibration.imatrix import name_map


@dataclass(frozen=True)
class Weight:
    """One matrix that can be quantized by itself.

    Attributes:
        tensor: its name in a GGUF file.
        parameter: its name in the model.
        layer: number of its decoder layer; 0 for what comes before the layers, and their count
            for what comes after them.
        transposed: the model keeps it as [in, out] (GPT-2), a file as [out, in].
        importance: weight of each input column's rounding error, float32 [in], or none.
    """

    tensor: str
    parameter: str
    layer: int
    transposed: bool
    importance: np.ndarray | None

    def read(self, model: Any) -> np.ndarray:
        """Return the values as a file has them, [out, in], float32; rows may be in other order."""
        values = read_parameter(model, self.parameter)
        return np.ascontiguousarray((values.T if self.transposed else values).numpy())

    def shape(self, model: Any) -> tuple[int, int]:
        """Return [out, in]."""
        rows, columns = model.get_parameter(self.parameter).shape
        return (columns, rows) if self.transposed else (rows, columns)

    def to_model(self, values: np.ndarray) -> torch.Tensor:
        """Return [out, in] values in the shape the model keeps."""
        tensor = torch.from_numpy(values)
        return tensor.T.contiguous() if self.transposed else tensor

    @property
    def parts(self) -> tuple[Weight, ...]:
        """The matrix alone; see :class:`Fused`."""
        return (self,)

    def as_parameters(self, values: np.ndarray) -> dict[str, torch.Tensor]:
        """Return parameter name to what it is with these [out, in] values."""
        return {self.parameter: self.to_model(values)}


@dataclass(frozen=True)
class Fused:
    """Matrices that a file keeps in one, such as those of q, k and v.

    Attributes:
        tensor: its name in the file.
        parts: the matrices, first rows first.
        rows: how many each has.
        importance: as in :class:`Weight`; they have the same inputs.
    """

    tensor: str
    parts: tuple[Weight, ...]
    rows: tuple[int, ...]
    importance: np.ndarray | None

    @property
    def layer(self) -> int:
        """The first layer that has one of them; see :class:`Weight`."""
        return min(part.layer for part in self.parts)

    def shape(self, model: Any) -> tuple[int, int]:
        """Return [out, in]."""
        return sum(self.rows), self.parts[0].shape(model)[1]

    def read(self, model: Any) -> np.ndarray:
        """Return the values as the file has them, [out, in], float32."""
        return np.concatenate([part.read(model) for part in self.parts])

    def as_parameters(self, values: np.ndarray) -> dict[str, torch.Tensor]:
        """Return parameter name to what it is with these [out, in] values."""
        pieces = np.split(values, np.cumsum(self.rows)[:-1])
        return {
            part.parameter: part.to_model(np.ascontiguousarray(piece))
            for part, piece in zip(self.parts, pieces, strict=True)
        }


def find_weights(
    model: Any,
    architecture: str,
    blocks: int,
    shapes: Mapping[str, tuple[int, ...]],
    stats: ActivationStats | None = None,
) -> list[Weight]:
    """Return every matrix whose rows are in one tensor of the file, in the model's order.

    Stacked experts and whatever else the converter takes apart or puts together are left out.

    Args:
        model: loaded in torch.
        architecture: llama.cpp's name of it.
        blocks: how many layers it has.
        shapes: of the file's tensors, [out, in].
        stats: by module name, where there is to be importance.
    """
    from transformers.pytorch_utils import Conv1D

    names, modules = name_map(architecture, blocks), dict(model.named_modules())
    layer_of = {
        id(m): number for number, one in enumerate(find_layers(model)) for m in one.modules()
    }
    parameters = own_names(model)
    head, found = model.get_output_embeddings(), {}
    scored = next((f"{name}.weight" for name, m in modules.items() if m is head), "")
    for name, module in modules.items():
        if not isinstance(module, torch.nn.Linear | torch.nn.Embedding | Conv1D):
            continue
        tensor = names.get_name(name)
        parameter = parameters[f"{name}.weight"]
        if tensor is None or (module is head and f"{tensor}.weight" not in shapes):
            continue  # a tied head is its embedding's tensor
        transposed = isinstance(module, Conv1D)
        shape = tuple(module.weight.shape[::-1] if transposed else module.weight.shape)
        if shapes.get(f"{tensor}.weight") != shape:
            continue
        is_table = isinstance(module, torch.nn.Embedding)
        tied = is_table and parameters.get(scored) == parameter
        reader = scored.removesuffix(".weight") if tied else name
        layer = layer_of.get(id(module), 0 if is_table else blocks)
        found[parameter] = Weight(
            f"{tensor}.weight", parameter, layer, transposed, _mean(stats, reader)
        )
    return list(found.values())


def match_weights(
    model: Any,
    matrices: Mapping[str, np.ndarray],
    importance: Callable[[str], np.ndarray | None],
) -> list[Fused]:
    """Return the matrices of a file that are parameters of the model, or some on top of another.

    They are found by their values, so no architecture's names are needed; what the file has in
    another form is left out.

    Args:
        model: loaded in torch.
        matrices: of a float32 file, by name, [out, in].
        importance: of a matrix's columns, by its name.
    """
    from transformers.pytorch_utils import Conv1D

    layers = find_layers(model)
    layer_of = {id(p): number for number, one in enumerate(layers) for p in one.parameters()}
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    flipped = {id(m.weight) for m in model.modules() if isinstance(m, Conv1D)}
    places: dict[bytes, list[Weight]] = {}
    rows_of: dict[str, int] = {}
    for name in dict.fromkeys(own_names(model).values()):
        parameter = model.get_parameter(name)
        if parameter.ndim == 2:
            layer = layer_of.get(id(parameter), 0 if id(parameter) in tables else len(layers))
            weight = Weight(name, name, layer, id(parameter) in flipped, None)
            values = weight.read(model)
            rows_of[name] = len(values)
            places.setdefault(values[0].tobytes(), []).append(weight)
    found = []
    for name, matrix in matrices.items():
        parts: list[Weight] = []
        rows: list[int] = []
        while sum(rows) < len(matrix):
            rest = matrix[sum(rows) :]
            beginning = places.get(np.ascontiguousarray(rest[0]).tobytes(), [])
            part = next((w for w in beginning if _begins(rest, w.read(model))), None)
            if part is None:
                break
            parts.append(part)
            rows.append(rows_of[part.parameter])
        if parts and sum(rows) == len(matrix):
            found.append(Fused(name, tuple(parts), tuple(rows), importance(name)))
    return found


def put_weights(model: Any, values: Mapping[str, torch.Tensor]) -> None:
    """Give parameters of these names other values for good, where the model is."""
    for name, tensor in values.items():
        parameter = model.get_parameter(name)
        parameter.data = tensor.to(parameter.device)


def _begins(rows: np.ndarray, with_rows: np.ndarray) -> bool:
    return np.array_equal(rows[: len(with_rows)], with_rows)


def _mean(stats: ActivationStats | None, module: str) -> np.ndarray | None:
    if stats is None or module not in stats.sums:
        return None
    return stats.means(module)
