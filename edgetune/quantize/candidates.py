"""Quantized bytes of every tensor of a file in every type, made once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetune.errors import Unsupported
from edgetune.log import Log
from edgetune.quantize.calibration.layer_passes import LayerHessians
from edgetune.quantize.formats.types import GGUF, TypeSet
from edgetune.quantize.methods.gptq import Gptq, Reader
from edgetune.quantize.stored import Stored, save_bytes
from edgetune.quantize.weights import Fused, Weight

#: Values that are rounded together: rows of an embedding some at a time, other matrices whole.
BLOCK_VALUES = 1 << 24
_BLOCK_ROWS = 4096  # a multiple of what GPTQ works on together


class Candidates:
    """The quantized bytes of every (tensor, type), made once and kept on disk.

    Attributes:
        weights: by tensor name.
        errors: tensor to type to squared rounding error, weighted by activation statistics.
        shapes: of the tensors, [out, in].
        types: what makes, reads and sizes them.

    Args:
        readers: of tensors that are rounded by GPTQ where their type has a codec: modules whose
            inputs their Hessians are made of.
    """

    def __init__(
        self, model: Any, weights: Sequence[Weight | Fused], folder: Path, types: TypeSet = GGUF,
        readers: Mapping[str, Reader] | None = None,
    ) -> None:  # fmt: skip
        self.types = types
        self._readers = readers or {}
        self._with_hessian: set[str] = set()
        self.weights: dict[str, Any] = {weight.tensor: weight for weight in weights}
        self.errors: dict[str, dict[str, float]] = {}
        self.shapes = {weight.tensor: weight.shape(model) for weight in weights}
        self._model, self.folder = model, folder

    def make(self, types: Sequence[str], log: Log, hessians: LayerHessians | None = None) -> None:
        """Quantize every tensor to every one of ``types`` that it can have.

        Args:
            types: see :attr:`types`.
            log: where the bar goes.
            hessians: of the inputs; without, no tensor is rounded by GPTQ.
        """
        outside = [name for name in self.weights if self.possible(name, types)[0] not in types]
        if outside:
            log.warn(
                f"{len(outside)} tensors, {outside[0]} among them, can have none of "
                f"{', '.join(types)}; they are {self.types.names[0]}"
            )
        made: dict[str, dict[str, float]] = {}
        with log.progress("candidates", len(self.weights)) as bar:
            for name, gptq in self._with_inputs(hessians):
                made[name] = self._make_one(self.weights[name], types, gptq)
                bar.update(1, now=name)
                del gptq  # the next layer's inputs come before what rounds by them
        self.errors = {name: made[name] for name in self.weights}

    def _with_inputs(self, hessians: LayerHessians | None) -> Iterator[tuple[str, Gptq | None]]:
        """Yield every tensor with what rounds it by GPTQ: those of a layer one after the other."""
        by_layer: dict[int, list[str]] = {}
        for name in self.weights:
            if hessians is not None and name in self._readers:
                by_layer.setdefault(self._readers[name].layer, []).append(name)
            else:
                yield name, None
        for layer, names in sorted(by_layer.items()):
            assert hessians is not None
            modules = {name: self._readers[name].module for name in names}
            found = hessians.of(layer, list(modules.values()))
            gptq: Gptq | None = None
            for name, module in modules.items():
                hessian_CC = found.get(module)
                if hessian_CC is None:
                    yield name, None
                    continue
                if gptq is None or not gptq.fits(hessian_CC):
                    gptq = None  # the last one's matrices go before others come
                    gptq = Gptq(hessian_CC)
                self._with_hessian.add(name)
                yield name, gptq
            del found, gptq, hessian_CC

    def _make_one(
        self, weight: Weight | Fused, types: Sequence[str], gptq: Gptq | None
    ) -> dict[str, float]:
        values_RC, mean_C = weight.read(self._model), weight.importance
        blocks = list(_blocks_of(values_RC))
        errors: dict[str, float] = {}
        for kind in self.possible(weight.tensor, types):
            plain = partial(self._round, blocks, kind, weight)
            self._keep(self._path(weight.tensor, kind), plain)
            if gptq is not None and kind in self.types.codec_types:
                compensated = partial(self._compensate, gptq, blocks, weight.tensor, kind)
                self._keep(self._path(weight.tensor, kind, gptq=True), compensated)
            raw, first = self.load(weight.tensor, kind), 0
            errors[kind] = 0.0
            for block_RC in blocks:
                off_RC = self.types.read(raw[first : first + len(block_RC)], kind) - block_RC
                first += len(block_RC)
                if gptq is not None:
                    errors[kind] += gptq.error(off_RC)
                else:
                    errors[kind] += float(
                        (off_RC * off_RC * (1 if mean_C is None else mean_C)).sum()
                    )
        return errors

    def _round(self, blocks: Sequence[np.ndarray], kind: str, weight: Weight | Fused) -> np.ndarray:
        mean_C, name = weight.importance, weight.tensor
        return _stack(self.types.quantize(block_RC, kind, mean_C, name) for block_RC in blocks)

    def possible(self, tensor: str, types: Sequence[str]) -> list[str]:
        """Return which of ``types`` a tensor can have; the widest there is if none of them.

        Raises:
            Unsupported: nor that.
        """
        columns, weighed = self.shapes[tensor][1], self.weights[tensor].importance is not None
        for some in (types, self.types.names[:1]):
            held = [kind for kind in some if self.types.fits(columns, kind, weighed)]
            if held:
                return held
        raise Unsupported(f"no type holds rows of {columns} values", where=tensor)

    def smallest(self, types: Sequence[str]) -> dict[str, str]:
        """Return for each tensor the smallest of ``types`` that it can have."""
        found = {}
        for tensor in self.weights:
            sizes = {kind: self.size(tensor, kind) for kind in self.possible(tensor, types)}
            found[tensor] = min(sizes, key=sizes.__getitem__)
        return found

    def load(self, tensor: str, kind: str, rtn: bool = False) -> np.ndarray:
        """Return the bytes [out, row_bytes] of a tensor in a type; ``rtn``: not by GPTQ."""
        gptq = not rtn and self._has_gptq(tensor, kind)
        raw: np.ndarray = np.load(self._path(tensor, kind, gptq))
        return raw

    def gptq_tensors(self, types: Mapping[str, str]) -> list[str]:
        """Return the tensors that are rounded by GPTQ in these types."""
        return [name for name, kind in types.items() if self._has_gptq(name, kind)]

    def read(self, tensor: str, kind: str, rtn: bool = False) -> np.ndarray:
        """Return the float32 values [out, in] of a tensor in a type; see :meth:`load`."""
        return self.types.read(self.load(tensor, kind, rtn), kind)

    def size(self, tensor: str, kind: str) -> int:
        """Return its bytes in a file, padding included."""
        rows, columns = self.shapes[tensor]
        return self.types.size(rows * self.types.row_bytes(columns, kind))

    def bytes_of(self, types: Mapping[str, str]) -> int:
        """Return what the candidates among these tensors take in these types."""
        return sum(self.size(name, kind) for name, kind in types.items() if name in self.weights)

    def stored(self, types: Mapping[str, str], rtn: bool = False) -> Stored:
        """Return the bytes of tensors in these types, read when asked for; see :meth:`load`."""
        paths = {
            name: self._path(name, kind, not rtn and self._has_gptq(name, kind))
            for name, kind in types.items()
        }
        return Stored(paths)

    def in_model(self, types: Mapping[str, str], rtn: bool = False) -> Mapping[str, torch.Tensor]:
        """Return parameter name to values for tensors in these types; see :meth:`load`."""
        return self.as_parameters(self.stored(types, rtn), types)

    def as_parameters(
        self, raw: Mapping[str, np.ndarray], types: Mapping[str, str]
    ) -> Mapping[str, torch.Tensor]:
        """Return parameter name to values for tensors of these bytes, rows in the model's order.

        The values are made when they are asked for, and not kept.
        """
        return _Rounded(self, raw, types)

    def _has_gptq(self, tensor: str, kind: str) -> bool:
        return tensor in self._with_hessian and kind in self.types.codec_types

    def _path(self, tensor: str, kind: str, gptq: bool = False) -> Path:
        return self.folder / tensor.strip("/") / f"{kind}{'.gptq' if gptq else ''}.npy"

    def _compensate(
        self, gptq: Gptq, blocks: Sequence[np.ndarray], tensor: str, kind: str
    ) -> np.ndarray:
        raw, codec, first, parts = self.load(tensor, kind, rtn=True), self.types.codec(kind), 0, []
        for block_RC in blocks:
            parts.append(gptq.round(block_RC, raw[first : first + len(block_RC)], codec))
            first += len(block_RC)
        return _stack(parts)

    def _keep(self, path: Path, make: Callable[[], np.ndarray]) -> None:
        """Write what is made, unless a run before this one did."""
        if path.exists():
            return
        save_bytes(path, make())


class _Rounded(Mapping[str, torch.Tensor]):
    """Parameter name to the values of tensors' bytes."""

    def __init__(
        self, candidates: Candidates, raw: Mapping[str, np.ndarray], types: Mapping[str, str]
    ) -> None:
        self._weights, self._types, self._raw = candidates.weights, candidates.types, raw
        self._kinds = types
        self._tensors = {
            part.parameter: tensor for tensor in raw for part in self._weights[tensor].parts
        }

    def __getitem__(self, parameter: str) -> torch.Tensor:
        tensor = self._tensors[parameter]
        values = self._types.read(self._raw[tensor], self._kinds[tensor])
        made: torch.Tensor = self._weights[tensor].as_parameters(values)[parameter]
        return made

    def read_rows(self, parameter: str, rows: torch.Tensor) -> torch.Tensor:
        """Return some rows of a parameter; of an embedding no others are made."""
        tensor = self._tensors[parameter]
        weight = self._weights[tensor]
        if len(weight.parts) > 1 or weight.parts[0].transposed:
            return self[parameter][rows]
        if isinstance(self._raw, Stored):
            raw = self._raw.read_rows(tensor, rows.numpy())
        else:
            raw = self._raw[tensor][rows.numpy()]
        return torch.from_numpy(self._types.read(raw, self._kinds[tensor]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _blocks_of(values_RC: np.ndarray) -> Iterator[np.ndarray]:
    if values_RC.size <= BLOCK_VALUES:
        yield values_RC
        return
    rows = max(1, BLOCK_VALUES // values_RC.shape[1] // _BLOCK_ROWS) * _BLOCK_ROWS
    for first in range(0, len(values_RC), rows):
        yield values_RC[first : first + rows]


def _stack(parts: Iterable[np.ndarray]) -> np.ndarray:
    found = list(parts)
    return found[0] if len(found) == 1 else np.concatenate(found)
