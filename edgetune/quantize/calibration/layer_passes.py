"""Forward passes one layer after the other: of all of a model only one layer is at work.

What a layer gives for every batch is kept and handed on to the next, so that each layer is computed
once, and what is collected of it (Hessians of its inputs) is that of one layer at a time.

B sequences of T tokens, N tokens of a batch, C input columns.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetune.errors import InputError
from edgetune.models.batching import batch_sequences, device_of, replaced_forward
from edgetune.models.layers import find_layers
from edgetune.models.parameters import changed_parameters
from edgetune.quantize.calibration.device import on_device

#: Of what a layer gives for all batches: more than this goes to files.
KEPT_BYTES = 256 << 20

Batch = tuple[torch.Tensor, torch.Tensor]


class LayerPasses:
    """A model that is asked about one layer after the other, and computes each once.

    Args:
        model: in torch.
        batches: ids [B, T], and which of these are no padding.
        folder: for what a layer gives, where that is much.
        changes: parameters that have other values in these passes.
    """

    def __init__(
        self, model: Any, batches: Sequence[Batch], folder: Path,
        changes: Sequence[Mapping[str, torch.Tensor]] = (),
    ) -> None:  # fmt: skip
        self._model, self._batches, self._changes = model, batches, changes
        self._layers = find_layers(model)
        self._done = 0  # so many layers have been computed for good
        self._given = _Given(len(batches), folder)  # by the last of them
        self.batch = 0  # the one at work

    def advance(self, layer: int) -> None:
        """Compute the layers before this one for good."""
        for number in range(self._done, layer):
            for batch in range(len(self._batches)):
                given = self._wait(batch, self._layers[number].register_forward_hook)
                self._given.put(batch, given)
            self._done = number + 1

    def inputs(self, module: str, layer: int) -> Iterator[tuple[torch.Tensor | None, int]]:
        """Yield what enters a module of a layer, [N, C] or none, and the tokens, batch by batch."""
        self.advance(layer)
        waits = self._model.get_submodule(module).register_forward_pre_hook
        for batch, (_, real_BT) in enumerate(self._batches):
            found = self._wait(batch, waits)
            yield None if found is None else without_padding(found, real_BT), int(real_BT.sum())

    @torch.no_grad()
    def _wait(self, batch: int, register: Callable[[Callable[..., None]], Any]) -> Any:
        """Return a module's output, or its input, whatever hook it is that is registered."""
        seen: list[Any] = []

        def note(_: Any, inputs: tuple[Any, ...], *output: Any) -> None:
            seen.append(output[0] if output else inputs[0])
            raise _Seen

        self.batch = batch
        handle = register(note)
        try:
            with ExitStack() as stack:
                for values in self._changes:
                    stack.enter_context(changed_parameters(self._model, values))
                given = self._given.get(batch) if self._done else None
                for layer in self._layers[: self._done]:  # they hand on, computing nothing
                    stack.enter_context(replaced_forward(layer, lambda *_, **__: given))
                ids_BT = self._batches[batch][0].to(device_of(self._model))
                self._model(ids_BT, use_cache=False)
        except _Seen:
            return seen[0]
        finally:
            handle.remove()
        return None


class LayerHessians:
    """The mean outer products of what enters a model's linear layers, a layer's at a time.

    Args:
        model: in torch.
        sequences: token ids; a causal model's are padded and computed together.
        folder: as in :class:`LayerPasses`.
    """

    def __init__(self, model: Any, sequences: Sequence[Sequence[int]], folder: Path) -> None:
        # Which of an expert's tokens are padding is not told.
        padded = not any("expert" in name for name, _ in model.named_modules())
        self._batches = [(ids, real) for _, ids, real in batch_sequences(sequences, padded)]
        self._model, self._tokens = model, sum(map(len, sequences))
        self._passes = LayerPasses(model, self._batches, folder)
        self._depth = len(find_layers(model))
        self._sums: dict[str, torch.Tensor] = {}
        # Matrices of one input, such as q, k and v, share its outer product: the input, its own.
        self._latest: tuple[torch.Tensor, torch.Tensor] | None = None

    def of(self, layer: int, modules: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the Hessians of linear modules of a layer, float32 [C, C].

        One that computes nothing has none. Those in no layer belong to the one after the last.
        Layers are asked for in their order.

        Raises:
            InputError: an input is NaN or infinite.
        """
        self._sums, self._latest = {}, None
        if layer == self._depth:
            for name in modules:
                for flat_NC, _ in self._passes.inputs(name, layer):
                    if flat_NC is not None:
                        self._add(name, flat_NC.T @ flat_NC)
        else:
            self._passes.advance(layer)
            with ExitStack() as stack:
                for name in modules:
                    module = self._model.get_submodule(name)
                    handle = module.register_forward_pre_hook(self._hook(name))
                    stack.callback(handle.remove)
                self._passes.advance(layer + 1)
        sums, self._sums, self._latest = self._sums, {}, None
        for name, one in sums.items():
            if not bool(one.diagonal().isfinite().all()):
                raise InputError("the inputs of this layer are NaN or infinite", where=name)
        return {name: one.div_(self._tokens).cpu().numpy() for name, one in sums.items()}

    def _hook(self, name: str) -> Any:
        def add(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            if self._latest is None or self._latest[0] is not inputs[0]:
                flat_NC = without_padding(inputs[0], self._batches[self._passes.batch][1])
                self._latest = inputs[0], flat_NC.T @ flat_NC
            self._add(name, self._latest[1])

        return add

    def _add(self, name: str, product_CC: torch.Tensor) -> None:
        if name in self._sums:
            self._sums[name] += product_CC
        else:
            self._sums[name] = product_CC.clone()


@contextmanager
def open_hessians(
    model: Any, sequences: Sequence[Sequence[int]], device: str, folder: Path
) -> Iterator[LayerHessians]:
    """Yield a model's Hessians, computed on ``device``; ``folder`` gets files that are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with on_device(model, device), tempfile.TemporaryDirectory(dir=folder) as kept:
        yield LayerHessians(model, sequences, Path(kept))


def without_padding(inputs: torch.Tensor, real_BT: torch.Tensor) -> torch.Tensor:
    """Return inputs [N, C] of the tokens that are no padding, float32; all, if of other tokens."""
    flat_NC, real_N = inputs.reshape(-1, inputs.shape[-1]).float(), real_BT.reshape(-1)
    return flat_NC[real_N.to(flat_NC.device)] if len(flat_NC) == len(real_N) else flat_NC


class _Given:
    """What a layer gave for each batch: in memory as far as there is room, else in files."""

    def __init__(self, batches: int, folder: Path) -> None:
        self._held: list[Any] = [None] * batches
        self._folder = folder
        self._files: set[int] = set()

    def put(self, batch: int, given: Any) -> None:
        self._held[batch] = None
        if _bytes_of(given) + sum(map(_bytes_of, self._held)) <= KEPT_BYTES:
            self._held[batch] = given
            self._files.discard(batch)
        else:
            torch.save(given, self._folder / f"{id(self)}-{batch}.pt")
            self._files.add(batch)

    def get(self, batch: int) -> Any:
        if batch in self._files:
            return torch.load(self._folder / f"{id(self)}-{batch}.pt", weights_only=True)
        return self._held[batch]


def _bytes_of(given: Any) -> int:
    if isinstance(given, torch.Tensor):
        return math.prod(given.shape) * given.element_size()
    return sum(map(_bytes_of, given)) if isinstance(given, tuple) else 0


class _Seen(Exception):
    """What was waited for has been computed; the rest of the pass is not needed."""
