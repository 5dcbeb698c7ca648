"""ESTIMATES: what each stage takes, one function a stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from edgetune.measure.devices import FILLED
from edgetune.measure.reference import kept_bytes
from edgetune.models.offload import IN_MEMORY_BYTES
from edgetune.ops.linear_loss import CHUNK_BYTES
from edgetune.plan.adapter_size import count_adapter
from edgetune.plan.files import BITS, loaded_bytes, making_bytes, reference_bytes
from edgetune.plan.machine import USABLE, Machine
from edgetune.plan.search import search_bytes, search_disk_bytes
from edgetune.plan.seconds import SECONDS, load_seconds, start_seconds, step_seconds
from edgetune.plan.shape import Shape, Tokens
from edgetune.plan.trace import Step, StepSettings, trace_step
from edgetune.recipe import Recipe, Training
from edgetune.train.optimizers import OPTIMIZERS

#: Resident memory of a process that has imported every stage and holds no model.
PROCESS_BYTES = 700_000_000
#: Of a tokenizer, per entry of its vocabulary: 151,646 take 205 MB.
TOKEN_BYTES = 1350
#: Of a worker of bench, which imports one runtime.
WORKER_BYTES = 500_000_000
#: The CUDA context and the libraries' workspaces.
CUDA_BYTES = 600_000_000
NF4_BYTES = 0.5 + (1 + 4 / 256) / 64  # codes, and doubly quantized scales of 64 weights
_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: What activations take with the holes that rows of other lengths leave between them.
_HEAP_SHARE = 1.3


@dataclass(frozen=True)
class Estimate:
    """What a stage takes at its peak.

    Attributes:
        stage: its name.
        ram_bytes: resident memory of all its processes.
        gpu_bytes: of a GPU; 0 where none is used.
        disk_bytes: written, scratch included.
        seconds: from start to end.
        why: the largest parts of the memory, for the person who reads.
        step_seconds: of an optimizer step, where the stage trains.
    """

    stage: str
    ram_bytes: int
    gpu_bytes: int
    disk_bytes: int
    seconds: float
    why: dict[str, int]
    step_seconds: float = 0.0


@dataclass(frozen=True)
class Job:
    """What the estimates are made of.

    Attributes:
        recipe: what is planned.
        config: of the base model, as transformers reads it.
        shape: its numbers of weights.
        student: the configuration of what is merged and shipped: the student, or the base again.
        student_shape: its numbers of weights.
        tokens: of the rows.
        machine: that it runs on.
        dtype: of activations.
    """

    recipe: Recipe
    config: Any
    shape: Shape
    student: Any
    student_shape: Shape
    tokens: Tokens
    machine: Machine
    dtype: str


def estimate_stages(job: Job) -> list[Estimate]:
    """Return an estimate of each stage of the recipe, in their order."""
    estimates = []
    for name, make in ESTIMATES.items():
        if getattr(job.recipe, name) is not None:
            estimate = make(job)
            seconds = SECONDS[name](job) if name in SECONDS else estimate.seconds
            estimates.append(replace(estimate, seconds=seconds))
    return estimates


def _estimate_tune(job: Job) -> Estimate:
    section = job.recipe.tuned
    assert section is not None and job.recipe.data is not None
    packed = section.packing
    length = (section.pack_length or job.recipe.data.max_length) if packed else job.tokens.longest
    sequences = math.ceil(job.tokens.rows * job.tokens.mean / length) if packed else job.tokens.rows
    trained = length * job.tokens.trained if packed else job.tokens.mean * job.tokens.trained
    settings = StepSettings(
        section, section.method != "full", job.dtype, section.batch_size, length
    )
    nf4 = section.method == "qlora"
    return _training("tune", job, settings, _Load(nf4, sequences, trained))


def _estimate_distill(job: Job) -> Estimate:
    section = job.recipe.distill
    assert section is not None and job.recipe.data is not None
    full = section.train == "full"
    dtype = "float32" if full else job.dtype
    settings = StepSettings(section, not full, dtype, section.batch_size, job.tokens.longest)
    load = _Load(section.train == "qlora", job.tokens.rows, job.tokens.mean * job.tokens.trained)
    student = replace(job, config=job.student, shape=job.student_shape)
    one = _training("distill", student, settings, load)
    return replace(one, seconds=(1 + section.baseline) * one.seconds)


@dataclass(frozen=True)
class _Load:
    """NF4 or not, sequences of an epoch, and the trained tokens of each."""

    nf4: bool
    sequences: int
    trained: float


def _training(stage: str, job: Job, settings: StepSettings, load: _Load) -> Estimate:
    section, shape, machine = settings.section, job.shape, job.machine
    step = trace_step(job.config, settings)
    size = _SIZES[settings.dtype]
    trainable = count_adapter(job.config, section, shape) if settings.adapter else shape.total
    optimizer = OPTIMIZERS[section.optimizer]
    state = int(optimizer.state_bytes * trainable)
    on_gpu = machine.device == "cuda"
    kept = 4 * trainable * (section.init == "pissa" and not on_gpu)  # the start, in RAM
    parts = {
        "tokenizer": TOKEN_BYTES * shape.vocabulary,
        "weights": _weight_bytes(shape, load.nf4, settings, machine),
        "optimizer and gradients": (8 if settings.adapter else 4) * trainable + state + kept,
        "activations": int((1.0 if on_gpu else _HEAP_SHARE) * step.saved_bytes),
        "loss": 2 * CHUNK_BYTES,
        "largest tensor": int(2 * step.largest_bytes)
        + size * shape.largest * (not settings.adapter),
    }
    peak = sum(parts.values())
    paged = state if on_gpu and optimizer.paged else 0  # to RAM, where the GPU's runs short
    held = PROCESS_BYTES + (paged if on_gpu else parts["weights"])
    loading = held + _mapped_bytes(shape, machine, held)
    saved = 4 * trainable + state
    return Estimate(
        stage,
        ram_bytes=loading if on_gpu else max(PROCESS_BYTES + peak, loading),
        gpu_bytes=CUDA_BYTES + peak - paged if on_gpu else 0,
        disk_bytes=3 * saved + 4 * trainable,
        seconds=start_seconds(job)
        + load_seconds(shape, load.nf4, machine)
        + _training_seconds(job, settings, step, load),
        why={"process": PROCESS_BYTES, **parts},
        step_seconds=section.gradient_accumulation
        * step_seconds(job, settings, step, load.trained * settings.batch),
    )


def _mapped_bytes(shape: Shape, machine: Machine, held: int) -> int:
    """Return what a checkpoint's pages take while it is read: the system takes back what it needs.

    Args:
        shape: of the model, in 16 bits.
        machine: that it is read on.
        held: memory that is not given back.
    """
    return min(2 * shape.total, max(0, int(USABLE * machine.ram_bytes) - held))


def _weight_bytes(shape: Shape, nf4: bool, settings: StepSettings, machine: Machine) -> int:
    if not settings.adapter:
        return 4 * shape.total
    size = _SIZES[settings.dtype]
    if not nf4:
        return size * shape.total
    unpacked = machine.device == "cpu" and 16 * shape.linear <= machine.ram_bytes
    return int((size if unpacked else NF4_BYTES) * shape.linear + size * shape.rest)


def _training_seconds(job: Job, settings: StepSettings, step: Step, load: _Load) -> float:
    section: Training = settings.section
    rows = settings.batch
    passes = math.ceil(load.sequences / rows)
    steps = section.max_steps or max(
        1, math.ceil(section.epochs * math.ceil(passes / section.gradient_accumulation))
    )
    one = step_seconds(job, settings, step, load.trained * rows)
    checks = steps // section.eval_every
    share = step.forward_flops / max(step.flops, 1)
    validated = job.tokens.validation_rows
    if section.eval_rows != "all":
        validated = min(validated, section.eval_rows)
    validation = checks * math.ceil(validated / rows) * one * share
    return steps * section.gradient_accumulation * one + validation


def _estimate_merge(job: Job) -> Estimate:
    shape, recipe = job.student_shape, job.recipe
    assert recipe.merge is not None
    tuned = recipe.tuned
    nf4 = tuned is not None and tuned.method == "qlora" and recipe.distill is None
    # Both models advance layer by layer, and blocks of logits are compared as they come.
    parts = {
        "process": PROCESS_BYTES,
        "tokenizer": TOKEN_BYTES * shape.vocabulary,
        "models": 2 * reference_bytes(shape),
        "logits": 4 * shape.vocabulary * job.tokens.longest,
    }
    written = _SIZES[recipe.merge.dtype] * shape.total
    copies = 2 if nf4 and recipe.merge.base == "auto" else 1
    return Estimate(
        "merge",
        ram_bytes=sum(parts.values()),
        gpu_bytes=0,
        disk_bytes=copies * written,
        seconds=0.0,
        why=parts,
    )


def _estimate_quantize(job: Job) -> Estimate:
    shape, section = job.student_shape, job.recipe.quantize
    assert section is not None
    parts = {
        "process": PROCESS_BYTES,
        "tokenizer": TOKEN_BYTES * shape.vocabulary,
        # Of one that is streamed, the head is not asked for.
        "model": whole if (whole := 4 * shape.total) <= IN_MEMORY_BYTES else 8 * shape.layer,
    }
    disk = 0.0
    if section.budget:
        parts["model"] = reference_bytes(shape)
        tokens = section.calibration_rows * job.tokens.mean
        parts["search"] = search_bytes(section, shape, tokens, parts["model"] == 4 * shape.total)
        disk = search_disk_bytes(section, shape)
    return Estimate("quantize", sum(parts.values()), 0, int(disk), 0.0, parts)


def _estimate_export(job: Job) -> Estimate:
    shape, section = job.student_shape, job.recipe.quantize
    assert section is not None and job.recipe.export is not None
    names = (*section.gguf, *section.onnx)
    # A row's of the file, those of the merged model, and log probabilities.
    logits = 12 * shape.vocabulary * job.tokens.longest
    # One after the other: each tensor is in float32 while its bytes are made and kept beside it.
    steps = {
        "tensor": max(map(making_bytes, names), default=5.06) * shape.largest,
        "reference": reference_bytes(shape) + logits,
        "file checked": max((loaded_bytes(name, shape) for name in names), default=0) + logits,
    }
    most = max(steps, key=lambda step: steps[step])
    parts = {
        "process": PROCESS_BYTES,
        "tokenizer": TOKEN_BYTES * shape.vocabulary,
        most: int(steps[most]),
    }
    rows = min(job.recipe.export.check_rows, job.tokens.validation_rows)
    # The files, and what is kept of the reference.
    disk = sum(BITS[name] / 8 * shape.total for name in names)
    positions = int(rows * job.tokens.mean)
    disk += kept_bytes(positions, shape.vocabulary, shape.head // shape.vocabulary)
    return Estimate("export", sum(parts.values()), 0, int(disk), 0.0, parts)


def _estimate_bench(job: Job) -> Estimate:
    shape, section = job.shape, job.recipe.bench
    assert section is not None
    size = 4 if 4 * shape.total <= FILLED * job.machine.ram_bytes else 2
    parts = {
        "processes": PROCESS_BYTES + WORKER_BYTES,
        "tokenizers": 2 * TOKEN_BYTES * shape.vocabulary,
        "model": size * shape.total,
        "logits": int(4 * shape.vocabulary * job.tokens.longest * (2 + job.tokens.trained)),
    }
    parts["checkpoint"] = _mapped_bytes(shape, job.machine, sum(parts.values()))
    scored = int(section.kl_rows * job.tokens.mean * job.tokens.trained)
    kept = kept_bytes(scored, shape.vocabulary, shape.head // shape.vocabulary)
    return Estimate("bench", sum(parts.values()), 0, 2 * kept, 0.0, parts)


ESTIMATES: dict[str, Callable[[Job], Estimate]] = {
    "tune": _estimate_tune,
    "distill": _estimate_distill,
    "merge": _estimate_merge,
    "quantize": _estimate_quantize,
    "export": _estimate_export,
    "bench": _estimate_bench,
}
