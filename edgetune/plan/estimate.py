"""ESTIMATES: what each stage takes, one function a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgetune.measure.devices import FILLED
from edgetune.measure.reference import kept_bytes
from edgetune.models.offload import IN_MEMORY_BYTES
from edgetune.plan.files import BITS, loaded_bytes, making_bytes, reference_bytes
from edgetune.plan.job import PROCESS_BYTES, TOKEN_BYTES, Estimate, Job, mapped_bytes
from edgetune.plan.search import search_bytes, search_disk_bytes
from edgetune.plan.seconds import SECONDS
from edgetune.plan.training import SIZES, estimate_distill, estimate_tune

#: Of a worker of bench, which imports one runtime.
WORKER_BYTES = 500_000_000


def estimate_stages(job: Job) -> list[Estimate]:
    """Return an estimate of each stage of the recipe, in their order."""
    estimates = []
    for name, make in ESTIMATES.items():
        if name == "tune" and job.steps:
            estimates += [replace(make(step), stage=label) for label, step in job.steps.items()]
        elif getattr(job.recipe, name) is not None:
            estimate = make(job)
            seconds = SECONDS[name](job) if name in SECONDS else estimate.seconds
            estimates.append(replace(estimate, seconds=seconds))
    return estimates


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
    written = SIZES[recipe.merge.dtype] * shape.total
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
    parts["checkpoint"] = mapped_bytes(shape, job.machine, sum(parts.values()))
    scored = int(section.kl_rows * job.tokens.mean * job.tokens.trained)
    kept = kept_bytes(scored, shape.vocabulary, shape.head // shape.vocabulary)
    return Estimate("bench", sum(parts.values()), 0, 2 * kept, 0.0, parts)


ESTIMATES: dict[str, Callable[[Job], Estimate]] = {
    "tune": estimate_tune,
    "distill": estimate_distill,
    "merge": _estimate_merge,
    "quantize": _estimate_quantize,
    "export": _estimate_export,
    "bench": _estimate_bench,
}
