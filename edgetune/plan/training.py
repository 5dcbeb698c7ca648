"""What a training takes: steps of the tuning, and the student's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from edgetune.ops.linear_loss import CHUNK_BYTES
from edgetune.plan.adapter_size import count_adapter
from edgetune.plan.job import PROCESS_BYTES, TOKEN_BYTES, Estimate, Job, mapped_bytes
from edgetune.plan.machine import Machine
from edgetune.plan.seconds import load_seconds, sample_seconds, start_seconds, step_seconds
from edgetune.plan.shape import Shape
from edgetune.plan.trace import Step, StepSettings, trace_step
from edgetune.recipe import Training
from edgetune.train.objectives import OBJECTIVES, Passes
from edgetune.train.optimizers import OPTIMIZERS

PACKED = ("sft", "text")  # objectives that pack rows
#: The CUDA context and the libraries' workspaces.
CUDA_BYTES = 600_000_000
NF4_BYTES = 0.5 + (1 + 4 / 256) / 64  # codes, and doubly quantized scales of 64 weights
SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: What activations take with the holes that rows of other lengths leave between them.
_HEAP_SHARE = 1.3


def estimate_tune(job: Job) -> Estimate:
    section = job.recipe.tuned
    assert section is not None and job.recipe.data is not None
    packed = section.packing and section.objective in PACKED
    length = (section.pack_length or job.recipe.data.max_length) if packed else job.tokens.longest
    passes = OBJECTIVES[section.objective].passes
    rows = job.tokens.rows * (job.sampling.generations if job.sampling else 1)
    sequences = math.ceil(rows * job.tokens.mean / length) if packed else rows * passes.trained
    trained = length * job.tokens.trained if packed else job.tokens.mean * job.tokens.trained
    batch = section.batch_size * passes.trained
    settings = StepSettings(section, section.method != "full", job.dtype, batch, length)
    nf4 = section.method == "qlora"
    return _training("tune", job, settings, _Load(nf4, sequences, trained, passes))


def estimate_distill(job: Job) -> Estimate:
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
    """NF4 or not, sequences of an epoch, the trained tokens of each, and what a row takes."""

    nf4: bool
    sequences: int
    trained: float
    passes: Passes = field(default_factory=Passes)


def _training(stage: str, job: Job, settings: StepSettings, load: _Load) -> Estimate:
    section, shape, machine = settings.section, job.shape, job.machine
    step = trace_step(job.config, settings)
    size = SIZES[settings.dtype]
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
    loading = held + mapped_bytes(shape, machine, held)
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
        step_seconds=section.gradient_accumulation * _pass_seconds(job, settings, step, load),
    )


def _weight_bytes(shape: Shape, nf4: bool, settings: StepSettings, machine: Machine) -> int:
    if not settings.adapter:
        return 4 * shape.total
    size = SIZES[settings.dtype]
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
    one = _pass_seconds(job, settings, step, load)
    checks = steps // section.eval_every
    share = step.forward_flops / max(step.flops, 1)
    validated = job.tokens.validation_rows
    if section.eval_rows != "all":
        validated = min(validated, section.eval_rows)
    validation = checks * math.ceil(validated / rows) * one * share
    before = passes * one * share * load.passes.before / load.passes.trained
    return steps * section.gradient_accumulation * one + validation + before


def _pass_seconds(job: Job, settings: StepSettings, step: Step, load: _Load) -> float:
    """Return the seconds of a micro-batch, with what is sampled and read without gradients."""
    one = step_seconds(job, settings, step, load.trained * settings.batch)
    share = step.forward_flops / max(step.flops, 1)
    passes, sampling = load.passes, job.sampling
    forward = passes.forward + bool(sampling and getattr(sampling, "beta", 0.0))
    sampled = sample_seconds(job, step, sampling.max_new_tokens) if sampling else 0.0
    return one * (1 + share * forward / passes.trained) + sampled
