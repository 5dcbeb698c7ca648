"""How far a model's distribution moves when some of its weights are rounded.

The measure is KL(model as it is || model with the change), in nats, mean over calibration tokens.
P positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from edgetune.errors import InputError
from edgetune.models.layers import find_layers

LOGIT_BYTES = 256 << 20  # of the reference's log probabilities; a vocabulary of 152 k has 440 rows
BATCH_TOKENS = 2048


class HarmMeter:
    """A model, the tokens it is asked about, and what it said before anything was changed.

    A change in layer n leaves what enters layer n as it was, so only the rest is computed: what
    each layer gives is kept once, and the layers before the change hand it on.

    Attributes:
        positions: how many are compared.
    """

    def __init__(self, model: Any, sequences: Sequence[Sequence[int]], tokens: int) -> None:
        vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self._model = model.eval()
        self._layers = find_layers(model)
        self._batches = _batch(sequences, min(tokens, LOGIT_BYTES // (4 * vocabulary)))
        if not self._batches:
            raise InputError("there is nothing to calibrate on", where="quantize.calibration_rows")
        self.positions = sum(int(ids_BT.numel()) for ids_BT in self._batches)
        self._kept: list[list[Any]] = []
        self._reference = [_log_probs(model, ids_BT) for ids_BT in self._batches]

    @torch.no_grad()
    def measure(self, weights: Mapping[str, torch.Tensor], first_layer: int = 0) -> float:
        """Return the KL with parameters of these names replaced.

        Args:
            weights: parameter name to values of its shape.
            first_layer: no parameter of a layer before it is among them, and :meth:`keep` was
                called since the layers before it were last changed for good.
        """
        total = 0.0
        with self.changed(weights):
            for number, ids_BT in enumerate(self._batches):
                with self._handing_on(number, first_layer):
                    total += self._divergence(number, _log_probs(self._model, ids_BT))
        return total / self.positions

    @contextmanager
    def changed(self, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Put other values into parameters of these names while the context is open."""
        parameters = dict(self._model.named_parameters())
        before = {name: parameters[name].data for name in weights}
        try:
            for name, values in weights.items():
                parameters[name].data = values.to(before[name].device)
            yield
        finally:
            for name, values in before.items():
                parameters[name].data = values

    @torch.no_grad()
    def keep(self) -> float:
        """Remember what each layer gives with the weights as they stand; return their KL."""
        self._kept = []
        total = 0.0
        for number, ids_BT in enumerate(self._batches):
            given: list[Any] = []
            handles = [
                layer.register_forward_hook(lambda _m, _i, output, to=given: to.append(output))
                for layer in self._layers
            ]
            try:
                total += self._divergence(number, _log_probs(self._model, ids_BT))
            finally:
                for handle in handles:
                    handle.remove()
            self._kept.append(given)
        return total / self.positions

    def _divergence(self, number: int, log_q_PV: torch.Tensor) -> float:
        log_p_PV = self._reference[number]
        return float((log_p_PV.exp() * (log_p_PV - log_q_PV)).sum(dtype=torch.float64))

    @contextmanager
    def _handing_on(self, number: int, first_layer: int) -> Iterator[None]:
        """Let the layers before ``first_layer`` give what they gave, computing nothing."""
        kept = self._kept[number] if self._kept else []
        skipped = list(zip(self._layers[:first_layer], kept, strict=False))
        for layer, output in skipped:
            layer.forward = lambda *_, output=output, **__: output
        try:
            yield
        finally:
            for layer, _ in skipped:
                del layer.forward  # the class's own again


def _batch(sequences: Sequence[Sequence[int]], positions: int) -> list[torch.Tensor]:
    """Return sequences of one length together, [B, T], up to so many positions in all."""
    by_length: dict[int, list[list[int]]] = {}
    for ids in sequences:
        left = min(len(ids), positions)
        if left < 2:
            continue
        positions -= left
        by_length.setdefault(left, []).append(list(ids[:left]))
    batches = []
    for length, rows in sorted(by_length.items()):
        size = max(1, BATCH_TOKENS // length)
        batches += [torch.tensor(rows[at : at + size]) for at in range(0, len(rows), size)]
    return batches


@torch.no_grad()
def _log_probs(model: Any, ids_BT: torch.Tensor) -> torch.Tensor:
    logits_BTV = model(input_ids=ids_BT.to(model.device), use_cache=False).logits
    logits_PV = logits_BTV.reshape(-1, logits_BTV.shape[-1]).float()
    return logits_PV.log_softmax(dim=-1)
