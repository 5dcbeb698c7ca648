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

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from edgetune.log import Log
from edgetune.models.batching import batch_sequences, device_of, replaced_forward
from edgetune.models.parameters import is_streamed, own_names
from edgetune.quantize.calibration.layer_passes import LayerPasses
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.held_out import compare_held_out
from edgetune.quantize.methods import Job
from edgetune.quantize.methods.gptq import Gptq
from edgetune.quantize.stored import Stored, save_bytes
from edgetune.quantize.weights import Weight


def quantize_file(job: Job) -> tuple[Stored, dict[str, Any]]:
    """Return the bytes of the tensors GPTQ rounds, as GPTAQ improves them, and facts.

    See :class:`~edgetune.quantize.methods.Method`; export rounds the other tensors to nearest.
    """
    raw, facts = quantize_gptaq(job)
    return raw.of(job.candidates.gptq_tensors(job.types)), facts


def quantize_gptaq(job: Job) -> tuple[Stored, dict[str, Any]]:
    """Return every tensor's bytes, rows in the model's own order, and what this order changed.

    The bytes are the candidates' where it did not help by more than chance: on held-out rows, or,
    where there are fewer than two of them, on the calibration rows.
    """
    model, candidates, types, texts = job.loaded, job.candidates, job.types, job.texts
    alone = candidates.stored(types)
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
) -> Stored:  # fmt: skip
    """Return the bytes of the matrices that were quantized again, rows in the model's own order.

    Lookups, types without a grid, and matrices that not every token reaches (experts) are not;
    their errors are made up for by what comes after them. The model and the rounded one advance
    layer by layer: the rounded weights of one layer are in memory beside the model.

    Args:
        model: in torch, float32; it is as before afterwards.
        candidates: its matrices, and their bytes in every type; bytes go to files beside them.
        types: tensor name to type.
        rows: token ids to calibrate on.
        log: where bars go.
    """
    batches = [(ids_BT, real_BT) for _, ids_BT, real_BT in batch_sequences(rows)]
    order = _find_order(model, candidates, types, batches[0][0])
    anew = {tensor for group in order for tensor in group.tensors}
    fixed = candidates.in_model({n: kind for n, kind in types.items() if n not in anew})
    if not is_streamed(model):
        fixed = dict(fixed)  # asked for in every pass
    rounded: dict[str, torch.Tensor] = {}  # of the layer at work
    folder = Path(tempfile.mkdtemp(prefix="sequential-", dir=candidates.folder))
    passes = [LayerPasses(model, batches, folder, changes) for changes in ((), (fixed, rounded))]
    paths: dict[str, Path] = {}
    at_work = 0
    with log.progress("rounding in order", len(anew)) as bar:
        for group in order:
            layer = candidates.weights[group.tensors[0]].layer
            moments = _compare(passes, group.module, layer)
            if layer != at_work:
                rounded.clear()
                at_work = layer
            feedback = None if moments is None else Gptq(moments[0])
            for tensor in group.tensors:
                weight, kind = candidates.weights[tensor], types[tensor]
                raw = candidates.load(tensor, kind)
                if moments and feedback:
                    wanted_RC = feedback.correct_weights(weight.read(model), moments[1])
                    plain = candidates.load(tensor, kind, rtn=True)
                    raw = feedback.round(wanted_RC, plain, candidates.types.codec(kind))
                    paths[tensor] = folder / f"{len(paths)}.npy"
                    save_bytes(paths[tensor], raw)
                rounded.update(candidates.as_parameters({tensor: raw}, types))
                bar.update(1, now=tensor)
    return Stored(paths)


class _Group(NamedTuple):
    """Matrices of one input, such as q, k and v, and a module that it enters."""

    module: str
    tensors: list[str]


def _find_order(
    model: Any, candidates: Candidates, types: Mapping[str, str], ids_BT: torch.Tensor
) -> list[_Group]:
    """Return the matrices that can be quantized again, in the order they are computed."""
    names = own_names(model)
    tables = {
        names[f"{name}.weight"]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding)
    }
    tensors, handles = {}, []
    for tensor in candidates.gptq_tensors(types):
        weight = candidates.weights[tensor]
        part = weight if isinstance(weight, Weight) else weight.parts[0]
        if names[part.parameter] not in tables:
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
        with replaced_forward(model.get_output_embeddings(), lambda hidden_BTD: hidden_BTD):
            model(ids_BT[:1].to(device_of(model)), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return order


def _compare(
    passes: Sequence[LayerPasses], module: str, layer: int
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
