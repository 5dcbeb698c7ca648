"""How long work takes: a step of training, and in SECONDS each stage that does not train.

What it computes, moves and reads is counted and divided by this machine's rates. The constants are
per weight, token or file, from measured runs (bench/results/size.jsonl).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetune.plan.job import Job
    from edgetune.plan.machine import Machine
    from edgetune.plan.shape import Shape
    from edgetune.plan.trace import Step, StepSettings

DISK_RATE = 300e6  # bytes per second
#: Of importing a stage's libraries and its first calls, in dispatched operations of torch.
_START_OPERATIONS = 0.9e6
#: Of loading a tokenizer, per entry of its vocabulary.
_TOKENIZER_OPERATIONS = 18.0
#: Bytes that elementwise operations move per weight: rounding to NF4 and back, to a GGUF type, to
#: an ONNX precision, and reading a weight of a checkpoint into float32.
_NF4_BYTES, _GGUF_BYTES, _ONNX_BYTES, _READ_BYTES = 700.0, 900.0, 900.0, 150.0
#: Passes over logits of two models that are compared.
_COMPARE_PASSES = 24
#: Of a worker process of bench that opens a file.
_WORKER_OPERATIONS = 1.0e6
#: Of the rate of a large product in float32, what models and files reach over some rows.
_PRODUCTS_SHARE = 0.5
#: Passes over a chunk's logits: product, softmax, loss, gradient and its product.
_LOSS_PASSES = 8
#: Of the machine's rates, which are those of one large product and of a stream within the cache:
#: what a step's products and elementwise operations reach.
_STEP_PRODUCTS, _STEP_MOVED = 0.4, 0.45
_STEP_OPERATIONS = 30_000  # of the trainer's own, around a pass
#: Weights that GPTQ rounds in a second on a core, for each type.
_GPTQ_WEIGHTS = 2e6


def start_seconds(job: Job) -> float:
    """Return the seconds of starting a stage: imports, the tokenizer, first calls."""
    operations = _START_OPERATIONS + _TOKENIZER_OPERATIONS * job.shape.vocabulary
    return operations * job.machine.overhead


def load_seconds(shape: Shape, nf4: bool, machine: Machine) -> float:
    """Return the seconds of reading a 16-bit checkpoint, and of rounding its layers to NF4."""
    read = 2 * shape.total / DISK_RATE + _READ_BYTES * shape.total / machine.bandwidth
    return read + nf4 * _nf4_seconds(shape, machine)


def step_seconds(job: Job, settings: StepSettings, step: Step, trained: float) -> float:
    """Return the seconds of a forward and backward pass over ``trained`` positions with a loss."""
    machine, shape = job.machine, job.shape
    flops, bandwidth = _STEP_PRODUCTS * machine.flops, _STEP_MOVED * machine.bandwidth
    body = step.flops / flops + step.moved_bytes / bandwidth
    products = 3 if not settings.adapter else 2
    head = products * 2 * trained * shape.head / flops
    logits = _LOSS_PASSES * 4 * trained * shape.vocabulary / bandwidth
    return body + (step.operations + _STEP_OPERATIONS) * machine.overhead + head + logits


def sample_seconds(job: Job, step: Step, tokens: int) -> float:
    """Return the seconds of sampling the answers of a micro-batch together, a token at a time.

    A forward pass dispatches a third of a step's operations and reads all weights.
    """
    machine, shape = job.machine, job.shape
    read = 2 * shape.total / (_STEP_MOVED * machine.bandwidth)
    return tokens * (step.operations / 3 * machine.overhead + read)


def merge_seconds(job: Job) -> float:
    """Return the seconds of a merge: candidates written, each compared with what was trained."""
    recipe, shape, machine = job.recipe, job.student_shape, job.machine
    assert recipe.merge is not None
    tuned = recipe.tuned
    nf4 = tuned is not None and tuned.method == "qlora" and recipe.distill is None
    copies = 2 if nf4 and recipe.merge.base == "auto" else 1
    size = 4 if recipe.merge.dtype == "float32" else 2
    written = copies * (
        size * shape.total / DISK_RATE + _READ_BYTES * shape.total / machine.bandwidth
    )
    tokens = min(recipe.merge.measure_rows, job.tokens.validation_rows) * job.tokens.mean
    answers = tokens * job.tokens.trained
    scored = (1 + copies) * _score_seconds(shape, machine, tokens, answers)
    compared = copies * _COMPARE_PASSES * 4 * answers * shape.vocabulary / machine.bandwidth
    rounded = 2 * nf4 * _nf4_seconds(shape, machine)  # for the reference, and for the copy
    return start_seconds(job) + written + scored + compared + rounded


def quantize_seconds(job: Job) -> float:
    """Return the seconds of the calibration pass, and of the searches."""
    shape, section, machine = job.student_shape, job.recipe.quantize, job.machine
    assert section is not None
    rows = min(section.calibration_rows, job.tokens.rows)
    tokens = rows * job.tokens.mean if section.imatrix or section.budget else 0.0
    seconds = start_seconds(job) + _score_seconds(shape, machine, tokens, 0)
    if section.budget:
        types = len(section.types) or 8
        seconds += types * _GGUF_BYTES / 2 * shape.total / machine.bandwidth
        if section.needs_hessian:
            seconds += types * shape.linear / _GPTQ_WEIGHTS
        searched = min(section.search_tokens, int(rows * job.tokens.mean))
        trials = 2 * types + 3 * len(section.budget)
        seconds += trials * _score_seconds(shape, machine, searched, searched)
    return seconds


def export_seconds(job: Job) -> float:
    """Return the seconds of writing each file and of comparing it with the merged model."""
    shape, section, machine = job.student_shape, job.recipe.quantize, job.machine
    assert section is not None and job.recipe.export is not None
    tokens = min(job.recipe.export.check_rows, job.tokens.validation_rows) * job.tokens.mean
    files = len(section.gguf) + len(section.onnx) + len(section.budget)
    rounded = _GGUF_BYTES * len(section.gguf) + _ONNX_BYTES * len(section.onnx)
    seconds = start_seconds(job) + rounded * shape.total / machine.bandwidth
    seconds += 2 * files * shape.total / DISK_RATE
    seconds += _score_seconds(shape, machine, tokens, tokens)
    seconds += files * _run_seconds(shape, machine, tokens, 0)
    compared = files * _COMPARE_PASSES * 4 * tokens * shape.vocabulary / machine.bandwidth
    return seconds + compared


def bench_seconds(job: Job) -> float:
    """Return the seconds of the workers: a model each, its answers, distributions and requests."""
    shape, section, machine = job.shape, job.recipe.bench, job.machine
    assert section is not None
    quantized = job.recipe.quantize
    files = (*quantized.gguf, *quantized.onnx, *quantized.budget) if quantized else ()
    models = len(files) + 2 + (job.recipe.tuned is not None) + (job.recipe.distill is not None)
    rows = min(section.task_rows, job.tokens.validation_rows)
    scored = min(section.kl_rows, job.tokens.validation_rows) * job.tokens.mean
    answer = min(section.max_new_tokens, job.tokens.mean * job.tokens.trained)
    asked = section.repeats + 1
    prompts = scored + rows * job.tokens.mean * (1 - job.tokens.trained)
    prompts += asked * section.prompt_tokens
    decoded = rows * answer + asked * section.new_tokens
    one = _WORKER_OPERATIONS * machine.overhead + load_seconds(shape, False, machine)
    one += _run_seconds(shape, machine, prompts, decoded)
    one += _COMPARE_PASSES * 4 * scored * job.tokens.trained * shape.vocabulary / machine.bandwidth
    return start_seconds(job) + models * one


def _nf4_seconds(shape: Shape, machine: Machine) -> float:
    return _NF4_BYTES * shape.linear / machine.bandwidth


def _score_seconds(shape: Shape, machine: Machine, tokens: float, heads: float) -> float:
    """Of a pass of a float32 model in torch over tokens, and of its head over some of them."""
    read = _READ_BYTES * shape.total / machine.bandwidth
    products = 2 * (tokens * shape.linear + heads * shape.head)
    return read + products / (_PRODUCTS_SHARE * machine.float32_flops)


def _run_seconds(shape: Shape, machine: Machine, prompts: float, decoded: float) -> float:
    """Of a runtime that reads prompts and decodes answers a token at a time."""
    read = 2 * prompts * shape.total / (_PRODUCTS_SHARE * machine.float32_flops)
    return read + decoded * 2 * shape.total / machine.bandwidth


SECONDS: dict[str, Callable[[Job], float]] = {
    "merge": merge_seconds,
    "quantize": quantize_seconds,
    "export": export_seconds,
    "bench": bench_seconds,
}
