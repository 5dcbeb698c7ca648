"""Quantized bytes of every tensor of a file in every type, made once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.disk import sync_file
from edgetune.errors import Unsupported
from edgetune.log import Log
from edgetune.quantize.formats.types import GGUF, TypeSet
from edgetune.quantize.methods.gptq import Gptq
from edgetune.quantize.weights import Fused, Weight


class Candidates:
    """The quantized bytes of every (tensor, type), made once and kept on disk.

    Attributes:
        weights: by tensor name.
        errors: tensor to type to squared rounding error, weighted by activation statistics.
        shapes: of the tensors, [out, in].
        types: what makes, reads and sizes them.

    Args:
        hessians: of inputs, by tensor; these are rounded by GPTQ where their type has a codec.
    """

    def __init__(
        self, model: Any, weights: Sequence[Weight | Fused], folder: Path, types: TypeSet = GGUF,
        hessians: Mapping[str, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self.types = types
        self._hessians = hessians or {}
        self.weights: dict[str, Any] = {weight.tensor: weight for weight in weights}
        self.errors: dict[str, dict[str, float]] = {}
        self.shapes = {weight.tensor: weight.read(model).shape for weight in weights}
        self._model, self._folder = model, folder

    def make(self, types: Sequence[str], log: Log) -> None:
        """Quantize every tensor to every one of ``types`` that it can have."""
        outside = [name for name in self.weights if self.possible(name, types)[0] not in types]
        if outside:
            log.warn(
                f"{len(outside)} tensors, {outside[0]} among them, can have none of "
                f"{', '.join(types)}; they are {self.types.names[0]}"
            )
        with log.progress("candidates", len(self.weights)) as bar:
            for name, weight in self.weights.items():
                self.errors[name] = self._make_one(weight, types)
                bar.update(1, now=name)

    def _make_one(self, weight: Weight | Fused, types: Sequence[str]) -> dict[str, float]:
        values, mean = weight.read(self._model), weight.importance
        errors: dict[str, float] = {}
        hessian = self._hessians.get(weight.tensor)
        gptq = None if hessian is None else Gptq(hessian)
        for kind in self.possible(weight.tensor, types):
            rtn = partial(self.types.quantize, values, kind, mean, weight.tensor)
            self._keep(self._path(weight.tensor, kind), rtn)
            if gptq is not None and kind in self.types.codec_types:
                compensated = partial(self._compensate, gptq, values, weight.tensor, kind)
                self._keep(self._path(weight.tensor, kind, gptq=True), compensated)
            off = self.read(weight.tensor, kind) - values
            if gptq is not None:
                errors[kind] = gptq.error(off)
            else:
                errors[kind] = float((off * off * (1 if mean is None else mean)).sum())
        return errors

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

    def in_model(self, types: Mapping[str, str], rtn: bool = False) -> dict[str, Any]:
        """Return parameter name to values for tensors in these types; see :meth:`load`."""
        return self.as_parameters({n: self.load(n, kind, rtn) for n, kind in types.items()}, types)

    def as_parameters(
        self, raw: Mapping[str, np.ndarray], types: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return parameter name to values for tensors of these bytes, rows in the model's order."""
        made: dict[str, Any] = {}
        for name, rows in raw.items():
            made |= self.weights[name].as_parameters(self.types.read(rows, types[name]))
        return made

    def _has_gptq(self, tensor: str, kind: str) -> bool:
        return tensor in self._hessians and kind in self.types.codec_types

    def _path(self, tensor: str, kind: str, gptq: bool = False) -> Path:
        return self._folder / tensor.strip("/") / f"{kind}{'.gptq' if gptq else ''}.npy"

    def _compensate(self, gptq: Gptq, values: np.ndarray, tensor: str, kind: str) -> np.ndarray:
        return gptq.round(values, self.load(tensor, kind, rtn=True), self.types.codec(kind))

    def _keep(self, path: Path, make: Callable[[], np.ndarray]) -> None:
        """Write what is made, unless a run before this one did."""
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, make())
        sync_file(part)
        part.rename(path)
