"""Rounding a file's matrices in the order they are computed, each making up for those before it.

GPTQ rounds a matrix as if its inputs were those of the unrounded model. In the file they are not:
everything before it was rounded too. Here every matrix sees the inputs that it will have, and is
first moved so that from them it gives, as nearly as least squares can, what the unrounded model
gives from its own (the asymmetric calibration of GPTAQ: Li et al. 2025, arXiv 2504.02692); then it
is rounded by GPTQ (:mod:`~edgetune.quantize.methods.gptq`).
That needs forward passes layer by layer and no gradients.

N tokens, R rows and C columns of a matrix.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch

from edgetune.log import Log
from edgetune.models.batching import batch_sequences, device_of, replaced_forward
from edgetune.models.layers import find_layers
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.held_out import compare_held_out
from edgetune.quantize.methods import Job
from edgetune.quantize.methods.gptq import Gptq
from edgetune.quantize.weights import Weight, put_weights


def quantize_file(job: Job) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the bytes of the tensors GPTQ rounds, as GPTAQ improves them, and facts.

    See :class:`~edgetune.quantize.methods.Method`; export rounds the other tensors to nearest.
    """
    raw, facts = quantize_gptaq(job)
    return {tensor: raw[tensor] for tensor in job.candidates.gptq_tensors(job.types)}, facts


def quantize_gptaq(job: Job) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return every tensor's bytes, rows in the model's own order, and what this order changed.

    The bytes are the candidates' where it did not help by more than chance: on held-out rows, or,
    where there are fewer than two of them, on the calibration rows.
    """
    model, candidates, types, texts = job.loaded, job.candidates, job.types, job.texts
    alone = {tensor: candidates.load(tensor, kind) for tensor, kind in types.items()}
    sequential = quantize_sequential(model, candidates, types, texts.calibration, job.log)
    in_order = alone | sequential
    rows, split = texts.calibration, "calibration"
    if len(texts.held_out) > 1:
        rows, split = texts.held_out, "held-out"
    found = compare_held_out(model, candidates, types, alone, in_order, rows)
    job.log.say(f"{job.file}: quantized sequentially (GPTAQ), {split}: {found}")
    facts = {"method": "gptq", "evaluated_on": split, **found.facts}
    return (in_order if found.kept else alone), facts


@torch.no_grad()
def quantize_sequential(
    model: Any, candidates: Candidates, types: Mapping[str, str], rows: Sequence[Sequence[int]],
    log: Log,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return the bytes of the matrices that were quantized again, rows in the model's own order.

    Lookups, types without a grid, and matrices that not every token reaches (experts) are not;
    their errors are made up for by what comes after them.

    Args:
        model: in torch, float32; it is as before afterwards.
        candidates: its matrices, and their bytes in every type.
        types: tensor name to type.
        rows: token ids to calibrate on.
        log: where bars go.
    """
    rounded = copy.deepcopy(model)
    batches = [(ids_BT, real_BT) for _, ids_BT, real_BT in batch_sequences(rows)]
    order = _find_order(model, candidates, types, batches[0][0])
    anew = {tensor for group in order for tensor in group.tensors}
    put_weights(
        rounded, candidates.in_model({n: kind for n, kind in types.items() if n not in anew})
    )
    passes = [_Passes(one, batches) for one in (model, rounded)]
    made = {}
    with log.progress("rounding in order", len(anew)) as bar:
        for group in order:
            moments = _compare(passes, group.module, candidates.weights[group.tensors[0]].layer)
            feedback = None if moments is None else Gptq(moments[0])
            for tensor in group.tensors:
                weight, kind = candidates.weights[tensor], types[tensor]
                raw = candidates.load(tensor, kind)
                if moments and feedback:
                    wanted_RC = feedback.correct_weights(weight.read(model), moments[1])
                    plain = candidates.load(tensor, kind, rtn=True)
                    raw = feedback.round(wanted_RC, plain, candidates.types.codec(kind))
                    made[tensor] = raw
                put_weights(rounded, candidates.as_parameters({tensor: raw}, types))
                bar.update(1, now=tensor)
    return made


class _Group(NamedTuple):
    """Matrices of one input, such as q, k and v, and a module that it enters."""

    module: str
    tensors: list[str]


def _find_order(
    model: Any, candidates: Candidates, types: Mapping[str, str], ids_BT: torch.Tensor
) -> list[_Group]:
    """Return the matrices that can be quantized again, in the order they are computed."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    tensors, handles = {}, []
    for tensor in candidates.gptq_tensors(types):
        weight = candidates.weights[tensor]
        part = weight if isinstance(weight, Weight) else weight.parts[0]
        if id(model.get_parameter(part.parameter)) not in tables:
            tensors[part.parameter.removesuffix(".weight")] = tensor
    order: list[_Group] = []
    seen: set[str] = set()
    last: list[Any] = [None]

    def note(module: str) -> Callable[..., None]:
        def add(_: Any, inputs: tuple[Any, ...]) -> None:
            if module in seen:
                return
            seen.add(module)
            if inputs[0] is not last[0]:
                order.append(_Group(module, []))
            order[-1].tensors.append(tensors[module])
            last[0] = inputs[0]

        return add

    for module in tensors:
        handles.append(model.get_submodule(module).register_forward_pre_hook(note(module)))
    try:
        model(ids_BT.to(device_of(model)), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return order


def _compare(
    passes: Sequence[_Passes], module: str, layer: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return two means over tokens [C, C]: of the rounded model's inputs, and of what they lack.

    The second is (true input − input) by input. None where tokens go different ways in the two.
    """
    sums: list[Any] = [0, 0]
    count = 0
    inputs = (one.inputs(module, layer) for one in passes)
    for (true_NC, tokens), (found_NC, _) in zip(*inputs, strict=True):
        if true_NC is None or found_NC is None or not len(true_NC) == len(found_NC) == tokens:
            return None
        sums[0] = sums[0] + found_NC.T @ found_NC
        sums[1] = sums[1] + (true_NC - found_NC).T @ found_NC
        count += tokens
    hessian_CC, cross_CC = ((each / count).cpu().numpy() for each in sums)
    return hessian_CC, cross_CC


class _Seen(Exception):
    """What was waited for has been computed; the rest of the pass is not needed."""


class _Passes:
    """A model that is asked about one layer after the other, and computes each once.

    Args:
        model: in torch.
        batches: ids [B, T], and which of these are no padding.
    """

    def __init__(self, model: Any, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._model, self._batches = model, batches
        self._layers = find_layers(model)
        self._done = 0  # so many layers have been computed for good
        self._given: list[Any] = [None] * len(batches)  # by the last of them

    def inputs(self, module: str, layer: int) -> Iterator[tuple[torch.Tensor | None, int]]:
        """Yield what enters a module of a layer, [N, C] or none, and the tokens, batch by batch."""
        for number in range(self._done, layer):
            self._given = [
                self._wait(batch, self._layers[number].register_forward_hook)
                for batch in range(len(self._batches))
            ]
            self._done = number + 1
        waits = self._model.get_submodule(module).register_forward_pre_hook
        for batch, (_, real_BT) in enumerate(self._batches):
            found = self._wait(batch, waits)
            real_N, flat_NC = real_BT.reshape(-1), None
            if found is not None:
                flat_NC = found.reshape(-1, found.shape[-1]).float()
                if len(flat_NC) == len(real_N):
                    flat_NC = flat_NC[real_N.to(flat_NC.device)]
            yield flat_NC, int(real_N.sum())

    def _wait(self, batch: int, register: Callable[[Callable[..., None]], Any]) -> Any:
        """Return a module's output, or its input, whatever hook it is that is registered."""
        seen: list[Any] = []

        def note(_: Any, inputs: tuple[Any, ...], *output: Any) -> None:
            seen.append(output[0] if output else inputs[0])
            raise _Seen

        handle = register(note)
        try:
            with ExitStack() as stack:
                for layer in self._layers[: self._done]:  # they hand on, computing nothing
                    stack.enter_context(
                        replaced_forward(layer, lambda *_, **__: self._given[batch])
                    )
                ids_BT = self._batches[batch][0].to(device_of(self._model))
                self._model(ids_BT, use_cache=False)
        except _Seen:
            return seen[0]
        finally:
            handle.remove()
        return None
