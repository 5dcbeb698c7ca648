"""What enters each weight of a model on calibration text: squares of its inputs.

B sequences of T tokens, N tokens of a batch, C input columns, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetune.errors import InputError
from edgetune.log import Log

if TYPE_CHECKING:
    from torch import Tensor

_SUM_ROWS = 512  # squared at a time in float32, then added in float64


@dataclass
class ActivationStats:
    """Sums of squared inputs of a model's weights.

    Attributes:
        sums: name of a linear layer, or of stacked experts' parameter, to float64 ``[C]``, for
            experts ``[E, C]``.
        counts: the number of tokens summed, int64 ``[1]`` or ``[E]``.
        sequences: how many sequences were read, and ``longest`` the tokens of the longest.
    """

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    sequences: int = 0
    longest: int = 0

    def add(self, name: str, inputs: Tensor, shape: tuple[int, ...] = (), expert: int = 0) -> None:
        """Add inputs ``[tokens, C]`` of a weight, or of one expert where ``shape`` is ``(E,)``."""
        import torch

        if name not in self.sums:
            self.sums[name] = np.zeros((*shape, inputs.shape[-1]))
            self.counts[name] = np.zeros(shape or 1, np.int64)
        sums = self.sums[name][expert] if shape else self.sums[name]
        for part in inputs.float().split(_SUM_ROWS):
            sums += part.square().sum(0, dtype=torch.float64).cpu().numpy()
        self.counts[name][expert] += len(inputs)

    def means(self, name: str) -> np.ndarray:
        """Return the mean squared inputs, float32 as ``sums``; 1 for an expert no token reached.

        llama.cpp reads its files so. The sums are rounded to float32 first, as they are on disk, so
        that export's bytes are the search's to the last bit.
        """
        counts = self.counts[name].reshape(-1, *(1,) * (self.sums[name].ndim - 1))
        sums = self.sums[name].astype(np.float32)
        means = np.where(counts > 0, sums / np.maximum(counts, 1).astype(np.float32), 1)
        return means.astype(np.float32)


def collect_activation_stats(
    model: Any, sequences: Sequence[Sequence[int]], log: Log
) -> ActivationStats:
    """Run the model over token sequences once and sum the squared inputs of every weight.

    Sequences are computed together, padded at the end: a causal model's output at a token
    does not depend on what follows, and the padding is left out of the sums. Logits are not made.

    Args:
        model: in torch.
        sequences: token ids.
        log: where the bar goes.

    Raises:
        InputError: there is no sequence, or an input is NaN or infinite.
    """
    import torch

    from edgetune.models.batching import batch_sequences, device_of, replaced_forward

    stats = ActivationStats(sequences=len(sequences), longest=max(map(len, sequences), default=0))
    watch, device = _Watch(model, stats), device_of(model)
    head = model.get_output_embeddings()  # its inputs are wanted, its scores are not
    with (
        torch.inference_mode(),
        watch.watching(),
        replaced_forward(head, lambda hidden_BTD: hidden_BTD[..., :1]),
        log.progress("activations", len(sequences)) as bar,
    ):
        for numbers, ids_BT, real_BT in batch_sequences(sequences, watch.padded):
            watch.real_BT = real_BT
            model(ids_BT.to(device), use_cache=False)
            bar.update(len(numbers))
    if not stats.sums:
        raise InputError("there is nothing to calibrate on", hint="quantize.imatrix: false")
    for name, sums in stats.sums.items():
        if not np.isfinite(sums).all():
            raise InputError("the inputs of this layer are NaN or infinite", where=name)
    return stats


class _Watch:
    """Adds what enters linear layers and stacked experts to an :class:`ActivationStats`.

    Attributes:
        experts: stacked parameters: their name to their module and its name for them.
        padded: whether sequences of several lengths can be computed together.
        real_BT: which tokens of the batch are no padding.
    """

    def __init__(self, model: Any, stats: ActivationStats) -> None:
        import torch
        from transformers.pytorch_utils import Conv1D

        self._model, self._stats = model, stats
        modules = dict(model.named_modules())
        kinds = torch.nn.Linear | Conv1D
        self._linear = {name: one for name, one in modules.items() if isinstance(one, kinds)}
        self.experts = {
            f"{name}.{key}": (module, key)
            for name, module in modules.items()
            for key, parameter in module.named_parameters(recurse=False)
            if parameter.ndim == 3 and "expert" in name
        }
        # Which of an expert's tokens are padding is not told.
        self.padded = not any("expert" in name for name in modules)
        self.real_BT: Any = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Accumulate the statistics while the context is open."""
        with ExitStack() as stack:
            for name, module in self._linear.items():
                handle = module.register_forward_pre_hook(self._hook(name))
                stack.callback(handle.remove)
            if self.experts:
                stack.enter_context(self._experts_apart())
                stack.enter_context(_linear_calls(self._add_expert))
            yield

    def _hook(self, name: str) -> Any:
        def add(_: Any, inputs: tuple[Tensor, ...]) -> None:
            flat = inputs[0].reshape(-1, inputs[0].shape[-1])
            real = self.real_BT.reshape(-1).to(flat.device)
            flat = flat[real] if self.padded and not real.all() else flat
            self._stats.add(name, flat)

        return add

    def _add_expert(self, inputs: Tensor, weight: Tensor) -> None:
        place = weight.untyped_storage().data_ptr()
        for name, (module, key) in self.experts.items():
            stacked = getattr(module, key)
            if stacked.untyped_storage().data_ptr() == place and weight.ndim == 2:
                expert = (weight.storage_offset() - stacked.storage_offset()) // stacked.stride(0)
                flat = inputs.reshape(-1, inputs.shape[-1])
                self._stats.add(name, flat, (len(stacked),), expert)

    @contextmanager
    def _experts_apart(self) -> Iterator[None]:
        """Compute each expert by a separate product, not all in one kernel."""
        config = self._model.config
        before = config._experts_implementation
        self._model.set_experts_implementation("eager")
        try:
            yield
        finally:
            config._experts_implementation = before


@contextmanager
def _linear_calls(watch: Any) -> Iterator[None]:
    """Call ``watch(inputs, weight)`` before each ``torch.nn.functional.linear``."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Listen(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.nn.functional.linear:
                watch(*args[:2])
            return function(*args, **(kwargs or {}))

    with Listen():
        yield
