"""Quants and scales by AutoRound's signed gradient descent (Cheng et al. 2023, arXiv 2309.05516).

Layer by layer, each matrix gets the rounding offsets and scales that minimize the change of the
layer's output on calibration rows. The result is taken as it is, nothing is rounded a
second time (checked for every matrix); :mod:`.autoround_types` says which types can hold it.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from edgetune.errors import EdgetuneError, Unsupported, raise_machine_fault
from edgetune.models.hardware import choose_device
from edgetune.models.layers import find_layers
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.quantize.formats.nbits import NBITS_TYPES, dequantize_nbits
from edgetune.quantize.held_out import compare_held_out
from edgetune.quantize.methods import Job
from edgetune.quantize.methods.autoround_types import GGML_TYPES, Scheme, find_scheme, pack_values
from edgetune.quantize.weights import Fused, Weight
from edgetune.recipe import AutoRoundSection
from edgetune.runtimes.ggml import dequantize_tensor

_KEPT = {"bits": 16, "act_bits": 16, "data_type": "float"}


def quantize_file(job: Job) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return each tensor's bytes as AutoRound chooses them, in the model's row order, and facts.

    What is in no decoder layer (embedding, head), or has another type, keeps ggml's rounding. All
    bytes are ggml's where AutoRound did not help on held-out rows by more than chance.

    Raises:
        Unsupported: no matrix of a layer has a type that holds AutoRound's result.
        EdgetuneError: AutoRound fails, or its result does not lie on the type's grid.
    """
    rtn = {tensor: job.candidates.load(tensor, kind) for tensor, kind in job.types.items()}
    loaded = load_model(ModelRef(job.model))
    chosen = find_roundable(loaded, job.candidates.weights, job.types)
    if not chosen:
        raise Unsupported(
            "AutoRound quantizes nothing: no matrix of a layer has a type that holds its result",
            where=f"quantize.method: {job.file}",
            hint=f"types that do: {', '.join(dict.fromkeys((*GGML_TYPES, *NBITS_TYPES)))}",
        )
    section = job.settings
    job.log.say(
        f"{job.file}: AutoRound, {len(chosen)} tensors, {section.iterations} iterations per layer"
    )
    rows, tokenizer = job.texts.calibration, load_tokenizer(job.model)
    raw = rtn | run_autoround(loaded, tokenizer, chosen, rows, section, job.seed)
    del loaded
    gc.collect()
    reference = load_model(ModelRef(job.model))
    found = compare_held_out(reference, job.candidates, job.types, rtn, raw, job.texts.held_out)
    job.log.say(f"{job.file}: AutoRound, held-out: {found}")
    facts = {"method": "autoround", "tensors": len(chosen), "steps": section.iterations}
    return (raw if found.kept else rtn), {**facts, **found.facts}


class Chosen(NamedTuple):
    """A tensor for AutoRound: its type, and the matrices it is made of, by module name."""

    kind: str
    parts: dict[str, Weight]


def find_roundable(
    model: Any, weights: Mapping[str, Weight | Fused], types: Mapping[str, str]
) -> dict[str, Chosen]:
    """Return the tensors for AutoRound: those of layers, in types that hold its result."""
    inside = {id(module) for layer in find_layers(model) for module in layer.modules()}
    modules = dict(model.named_modules())
    found = {}
    for tensor, kind in types.items():
        weight = weights[tensor]
        several = weight.parts if isinstance(weight, Fused) else (weight,)
        parts = {part.parameter.removesuffix(".weight"): part for part in several}
        if find_scheme(kind) and all(id(modules.get(name)) in inside for name in parts):
            found[tensor] = Chosen(kind, parts)
    return found


def run_autoround(
    model: Any, tokenizer: Any, chosen: Mapping[str, Chosen], rows: Sequence[Sequence[int]],
    section: AutoRoundSection, seed: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return the bytes of the tensors that AutoRound quantizes, rows in the model's own order.

    Args:
        model: in torch, float32; it has the rounded weights afterwards.
        tokenizer: its own; asked for, and not used for rows that are token ids.
        chosen: by tensor name.
        rows: token ids to calibrate on.
        section: iterations and batch.
        seed: of the batches.

    Raises:
        EdgetuneError: AutoRound fails, or its result does not lie on the type's grid.
    """
    schemes = {tensor: find_scheme(one.kind) for tensor, one in chosen.items()}
    config = {
        module: scheme.settings
        for tensor, scheme in schemes.items()
        if scheme is not None
        for module in chosen[tensor].parts
    }
    rounded = _run(model, tokenizer, config, rows, section, seed)
    return {
        tensor: np.concatenate(
            [
                _pack(rounded.get_submodule(module), part, one.kind)
                for module, part in one.parts.items()
            ]
        )
        for tensor, one in chosen.items()
    }


def _run(
    model: Any, tokenizer: Any, config: Mapping[str, Any], rows: Sequence[Sequence[int]],
    section: AutoRoundSection, seed: int,
) -> Any:  # fmt: skip
    """Return the model with its matrices rounded, their scales beside them."""
    batches = list(_pad(rows))
    linear = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    others = dict.fromkeys(linear - set(config), _KEPT)
    with _quiet() as output:
        try:
            from auto_round import AutoRound

            worker = AutoRound(
                model,
                tokenizer=tokenizer,
                scheme={**Scheme(4, 32, False).settings, "act_bits": 16},
                layer_config={**config, **others},
                dataset=batches,
                iters=section.iterations,
                batch_size=section.batch_size,
                nsamples=len(batches),
                seqlen=int(batches[0]["input_ids"].shape[-1]),
                seed=seed,
                device_map=choose_device("auto"),
                scale_dtype="fp16",  # as the file holds them
                amp=False,  # weights, and what they are compared in, stay float32
                low_cpu_mem_usage=False,  # nothing is offloaded to the working directory
            )
            rounded, _ = worker.quantize()
        except (Exception, SystemExit) as error:  # it exits where rows do not suit it
            raise_machine_fault(error, "quantize.method")
            last = output.getvalue().strip().splitlines()[-1:]
            raise EdgetuneError(
                f"AutoRound fails: {type(error).__name__}: {error}",
                where="quantize.method",
                hint=" ".join(["its last messages:", *last]) if last else "quantize.method: rtn",
            ) from error
    return rounded


def _pad(rows: Sequence[Sequence[int]]) -> Iterator[dict[str, torch.Tensor]]:
    """Yield each row of token ids as AutoRound takes it: [1, T], filled up to one length.

    It stacks rows, and masks the last column of all of them: that is filling too.
    """
    length = max(map(len, rows)) + 1
    for row in rows:
        ids = torch.zeros(1, length, dtype=torch.long)
        mask = torch.zeros(1, length, dtype=torch.long)
        ids[0, : len(row)], mask[0, : len(row)] = torch.tensor(list(row)), 1
        yield {"input_ids": ids, "attention_mask": mask}


def _pack(module: Any, weight: Weight, kind: str) -> np.ndarray:
    """Return a rounded matrix as a type's bytes, uint8 [R, row bytes].

    Raises:
        EdgetuneError: the bytes would not be the matrix.
    """
    values = module.weight.detach().float().cpu()
    values_RC = np.ascontiguousarray((values.T if weight.transposed else values).numpy())
    zeros = module.zp.detach().float().cpu().numpy() if torch.is_tensor(module.zp) else None
    raw = pack_values(values_RC, module.scale.detach().cpu().numpy(), zeros, kind)
    read = dequantize_tensor if kind in GGML_TYPES else dequantize_nbits
    if not np.array_equal(read(raw, kind), values_RC):
        raise EdgetuneError(
            f"AutoRound's weights are not values of {kind}",
            where=weight.tensor,
            hint="auto-round 0.14.2 is what edgetune is made for; quantize.method: rtn",
        )
    return raw


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Keep AutoRound's bars and hundreds of lines from the terminal; yield what was printed."""
    output = io.StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
            warnings.catch_warnings(action="ignore"),
        ):
            yield output
    finally:
        logging.disable(before)
