"""How far a model's distribution moves when some of its weights are rounded.

The measure is KL(model as it is || model with the change), in nats, mean over calibration tokens.
P positions, D width of hidden states, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from edgetune.errors import EdgetuneError, InputError
from edgetune.models.batching import device_of, replaced_forward
from edgetune.models.head import find_head, head_formula, hidden_at
from edgetune.models.layers import find_layers
from edgetune.models.parameters import (
    changed_parameters,
    is_streamed,
    own_names,
    read_parameter,
)
from edgetune.ops.linear_loss import Head

#: Of log probabilities: so many are kept of the reference; those of more are computed anew, from
#: hidden states. A vocabulary of 128 k has 523 positions in it.
LOGIT_BYTES = 256 << 20
CHUNK_BYTES = 64 << 20  # of the logits that are compared at a time
BATCH_TOKENS = 2048


class KLMeter:
    """A model, the tokens it is asked about, and what it said before anything was changed.

    A change in layer n leaves what enters layer n as it was, so only the rest is computed: what
    each layer gives is kept once, and the layers before the change hand it on. Logits are computed
    and compared some positions at a time, however large the vocabulary; only a model whose head has
    no known formula has all of a batch's, and as many positions as :data:`LOGIT_BYTES` hold.

    Attributes:
        positions: how many are compared.
        counts: how many of them each row has.

    Raises:
        InputError: there is no row of two tokens.
        EdgetuneError: the model itself gives logits that are not finite.
    """

    def __init__(self, model: Any, sequences: Sequence[Sequence[int]], tokens: int) -> None:
        head = model.get_output_embeddings()
        vocabulary = int(head.weight.shape[0])
        self._model = model.eval()
        self._layers = find_layers(model)
        self._streamed = _read_head(model) if is_streamed(model) else None
        self._head = find_head(model, self._streamed)
        self._chunk = max(1, CHUNK_BYTES // (4 * vocabulary))
        if self._head is None:
            tokens = min(tokens, LOGIT_BYTES // (4 * vocabulary))
        self._batches = _batch(sequences, tokens)
        if not self._batches:
            raise InputError("there is nothing to calibrate on", where="quantize.calibration_rows")
        self.counts = [len(ids_T) for ids_BT in self._batches for ids_T in ids_BT]
        self.positions = sum(self.counts)
        self._kept: list[list[Any]] = []
        # The same storage as the weights now; a change puts other storage into the parameters.
        self._true_head = self._head and (
            self._streamed
            or self._head._replace(
                weight_VD=head.weight.detach(),
                bias_V=None if head.bias is None else head.bias.detach(),
            )
        )
        self._keeps = self._head is None or 4 * vocabulary * self.positions <= LOGIT_BYTES
        self._reference = [self._remember(ids_BT) for ids_BT in self._batches]

    @torch.no_grad()
    def measure(self, weights: Mapping[str, torch.Tensor], first_layer: int = 0) -> float:
        """Return the KL with parameters of these names replaced; infinite where it is no number.

        Args:
            weights: parameter name to values of its shape.
            first_layer: no parameter of a layer before it is among them, and :meth:`keep` was
                called since the layers before it were last changed for good.
        """
        total = float(self.measure_rows(weights, first_layer).sum()) / self.positions
        return total if math.isfinite(total) else math.inf

    @torch.no_grad()
    def measure_rows(self, weights: Mapping[str, torch.Tensor], first_layer: int = 0) -> np.ndarray:
        """Return the same as a sum over each row's positions, [rows], in :attr:`counts`' order."""
        rows = []
        with self.changed(weights):
            for number, ids_BT in enumerate(self._batches):
                with self._handing_on(number, first_layer):
                    rows.append(self._divergence(number, ids_BT))
        return np.concatenate(rows)

    @contextmanager
    def changed(self, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Put other values into parameters of these names while the context is open."""
        before = self._head
        if self._streamed and before and (name := _head_name(self._model)) in weights:
            self._head = before._replace(weight_VD=weights[name])
        try:
            with changed_parameters(self._model, weights):
                yield
        finally:
            self._head = before

    @torch.no_grad()
    def keep(self) -> float:
        """Cache each layer's output with the present weights; return their KL."""
        self._kept = []
        total = 0.0
        for number, ids_BT in enumerate(self._batches):
            given: list[Any] = []
            handles = [
                layer.register_forward_hook(lambda _m, _i, output, to=given: to.append(output))
                for layer in self._layers
            ]
            try:
                total += float(self._divergence(number, ids_BT).sum())
            finally:
                for handle in handles:
                    handle.remove()
            self._kept.append(given)
        return total / self.positions

    @torch.no_grad()
    def _remember(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Return the model's log probabilities [P, V], or the hidden states [P, D] they come of."""
        given_P = self._give(ids_BT)
        if not self._keeps:
            finite = all(bool(one.isfinite().all()) for one in self._logits(given_P))
        else:
            given_P = torch.cat([one.log_softmax(dim=-1) for one in self._logits(given_P)])
            finite = bool(given_P.isfinite().all())
        if not finite:
            raise EdgetuneError("the model gives logits that are not finite", where="quantize")
        return given_P

    def _give(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Return what logits are made of at every position: hidden states, else the logits."""
        ids_BT = ids_BT.to(device_of(self._model))
        if self._head is not None:
            every_BT = torch.ones_like(ids_BT, dtype=torch.bool)
            return hidden_at(self._model, every_BT, input_ids=ids_BT)
        logits_BTV = self._model(input_ids=ids_BT, use_cache=False).logits
        return logits_BTV.reshape(-1, logits_BTV.shape[-1])  # type: ignore[no-any-return]

    def _logits(self, given_P: torch.Tensor, head: Any = None) -> Iterator[torch.Tensor]:
        """Yield float32 logits [C, V], some positions at a time."""
        for given_C in given_P.split(self._chunk):
            if self._head is None:
                yield given_C.float()
            else:
                yield (head or self._head).logits(given_C)

    def _true_log_probs(self, number: int) -> Iterator[torch.Tensor]:
        reference_P = self._reference[number]
        if self._keeps:
            yield from reference_P.split(self._chunk)
            return
        for logits_CV in self._logits(reference_P, self._true_head):
            yield logits_CV.log_softmax(dim=-1)

    def _divergence(self, number: int, ids_BT: torch.Tensor) -> np.ndarray:
        """Return the sum over each row's positions, [B], in nats."""
        both = zip(self._true_log_probs(number), self._logits(self._give(ids_BT)), strict=True)
        parts = []
        for log_p_CV, logits_CV in both:
            log_q_CV = logits_CV.log_softmax(dim=-1)
            parts.append((log_p_CV.exp() * (log_p_CV - log_q_CV)).sum(dim=-1, dtype=torch.float64))
        rows_B: np.ndarray = torch.cat(parts).reshape(ids_BT.shape).sum(dim=1).cpu().numpy()
        return rows_B

    @contextmanager
    def _handing_on(self, number: int, first_layer: int) -> Iterator[None]:
        """Let the layers before ``first_layer`` give what they gave, computing nothing."""
        kept = self._kept[number] if self._kept else []
        with ExitStack() as stack:
            for layer, output in zip(self._layers[:first_layer], kept, strict=False):
                hand_on = replaced_forward(layer, lambda *_, output=output, **__: output)
                stack.enter_context(hand_on)
            yield


def _head_name(model: Any) -> str:
    head = model.get_output_embeddings()
    return own_names(model)[next(f"{n}.weight" for n, m in model.named_modules() if m is head)]


def _read_head(model: Any) -> Head | None:
    """Return the head of a model whose weights are on disk."""
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        return None
    name = _head_name(model)
    bias = None if head.bias is None else read_parameter(model, f"{name.rpartition('.')[0]}.bias")
    return head_formula(model)._replace(weight_VD=read_parameter(model, name), bias_V=bias)


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
