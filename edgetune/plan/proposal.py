"""Settings proposed for a model and rows, each with its reason: what `edgetune init` writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgetune.log import counted
from edgetune.models.shape import Shape
from edgetune.models.tuning_method import propose_method
from edgetune.models.untrained_tokens import name_ends

#: Tokens of an optimizer step to aim at, rows padded, and of one forward pass at most.
STEP_TOKENS, PASS_TOKENS = 2_000, 16_384
#: Rows whose answers a student needs, and layers of a teacher that can lose half of them.
STUDENT_ROWS, STUDENT_LAYERS = 1_000, 6
#: A text is cut into pieces of at most so many tokens.
TEXT_LENGTH = 1_024


@dataclass(frozen=True)
class Effort:
    """What a preset spends: steps to aim at and at most, passes at most, LoRA rank."""

    steps: int
    most_steps: int
    epochs: int
    rank: int


PRESETS = {
    "fast": Effort(150, 400, 3, 8),
    "balanced": Effort(400, 1_500, 8, 16),
    "best": Effort(1_000, 6_000, 12, 32),
}


@dataclass(frozen=True)
class RowFacts:
    """What rows are like, measured on a sample.

    Attributes:
        objective: what they can be trained on, by their shape.
        shape: its name.
        train: rows to train on.
        mean: tokens of a row; a pair is one of each answer.
        p99: 99th percentile of them.
        longest: the most of a row of the sample.
        whole: whether the sample is all rows.
        often: tokens that many answers have.
        untrained: how many of them the base was never trained on.
    """

    objective: str
    shape: str
    train: int
    mean: float
    p99: int
    longest: int
    whole: bool = True
    often: tuple[int, ...] = ()
    untrained: int = 0


@dataclass(frozen=True)
class Value:
    """A proposed value, and why."""

    value: Any
    why: str = ""


Sections = dict[str, dict[str, Value]]


def propose(shape: Shape, rows: RowFacts, preset: str, device: str = "cpu") -> Sections:
    """Return proposed sections of a recipe: ``data``, ``tune`` and what follows.

    Args:
        shape: sizes of the model.
        rows: what they are like.
        preset: a name of :data:`PRESETS`.
        device: ``cpu`` or ``cuda``.
    """
    effort = PRESETS[preset]
    length = _propose_length(shape, rows)
    packing = _propose_packing(rows, int(length.value), device)
    tune = {
        "objective": Value(rows.objective, f"what rows of the shape {rows.shape} are for"),
        "method": _propose_method(shape, rows.objective),
        **_propose_adapter(shape, effort),
        "learning_rate": Value(0),
        **_propose_steps(rows, int(length.value), effort, packing),
    }
    if rows.objective in ("sft", "text"):
        tune["packing"] = packing
    if tune["method"].value == "full":
        tune = {key: value for key, value in tune.items() if key not in ("rank", "alpha")}
    elif rows.untrained:
        why = f"{counted(rows.untrained, 'token')} of answers the base was never trained on"
        tune["modules_to_save"] = Value(name_ends(shape), why)
    tune["learning_rate"] = propose_rate(shape, str(tune["method"].value), rows.objective)
    data = {"max_length": length}
    if rows.objective != "text" and (rows.longest > length.value or not rows.whole):
        data["on_bad_row"] = Value(
            "skip", "a prompt that fills max_length leaves no answer to train"
        )
    sections: Sections = {"data": data, "tune": tune}
    if preset == "best" and (student := _propose_student(shape, rows, tune)):
        sections["distill"] = student
    return {**sections, "quantize": _propose_files(preset)}


def _propose_length(shape: Shape, rows: RowFacts) -> Value:
    """Return the 99th percentile of the rows' tokens, within the model's context."""
    wanted, why = rows.p99, f"99 % of the rows have at most {rows.p99:,} tokens"
    if rows.objective == "text":
        wanted, why = min(rows.longest, TEXT_LENGTH), f"texts are cut at {TEXT_LENGTH:,} tokens"
        if rows.longest <= TEXT_LENGTH:
            why = f"the longest text has {rows.longest:,} tokens"
    elif rows.longest <= 1.25 * rows.p99:
        wanted, why = rows.longest, f"the longest of the sampled rows has {rows.longest:,} tokens"
    wanted = max(32, 16 * math.ceil(wanted / 16))
    if shape.context is not None and wanted > shape.context:
        return Value(shape.context, f"the model's context; {why}")
    return Value(wanted, why)


def _propose_method(shape: Shape, objective: str) -> Value:
    method, why = propose_method(shape)
    if objective == "text" and method == "lora":
        return Value("full", "an adapter learns less of new text, and all weights fit")
    return Value(method, why)


def _propose_adapter(shape: Shape, effort: Effort) -> dict[str, Value]:
    """Return rank and alpha: the preset's, within the narrowest matrix of a layer."""
    sides = [min(size) for name, size in shape.tensors.items() if len(size) == 2 and min(size) > 1]
    narrow = min(sides, default=effort.rank)
    rank = effort.rank if shape.packed else min(effort.rank, narrow)
    why = "the preset's" if rank == effort.rank else f"the narrowest matrix has no more than {rank}"
    return {"rank": Value(rank, why), "alpha": Value(float(2 * rank), "twice the rank")}


def propose_rate(shape: Shape, method: str, objective: str) -> Value:
    """Return the peak learning rate for a model's width, method and objective.

    An adapter wants 5e-4 at a width of 2,000 and about ten times the rate of full tuning, whatever
    its rank; narrower models want more (Schulman et al. 2025, LoRA Without Regret). Preferences
    move a model that can answer already, so they take a tenth.
    """
    hidden = shape.config.get("hidden_size") or shape.config.get("n_embd") or 2_000
    rate = min(4e-3, max(1e-4, 5e-4 * (2_000 / float(hidden)) ** 0.78))
    parts = [f"an adapter over a width of {int(hidden):,}"]
    if method == "full":
        rate, parts = rate / 10, [f"all weights, a width of {int(hidden):,}: a tenth of LoRA's"]
    if objective not in ("sft", "text"):
        rate, parts = rate / 10, [*parts, "preferences take a tenth"]
    return Value(float(f"{rate:.1e}"), "; ".join(parts))


def _propose_packing(rows: RowFacts, length: int, device: str) -> Value:
    """Return whether several rows share a sequence."""
    if rows.objective == "text":
        return Value(True, "short pieces of texts share a sequence")
    if device == "cuda" and rows.mean * 4 < length:
        return Value(True, f"rows of {rows.mean:.0f} tokens are short: they share a sequence")
    why = "batches are of rows of similar length, so that little is padded"
    return Value(False, why)


def _propose_steps(rows: RowFacts, length: int, effort: Effort, packing: Value) -> dict[str, Value]:
    """Return batch, passes and what goes by the number of steps.

    A step is of :data:`STEP_TOKENS` tokens, so that short rows make no steps of noise, but of
    fewer where few rows would make few steps of it.
    """
    packs = bool(packing.value) and rows.objective in ("sft", "text")
    tokens = float(length) if packs else min(rows.mean, float(length))
    sequences = max(1, math.ceil(rows.train * rows.mean / length)) if packs else rows.train
    wanted = min(STEP_TOKENS / max(tokens, 1.0), sequences * effort.epochs / effort.steps)
    batch = _power_of_two(min(max(wanted, 4), 32))
    fits = _power_of_two(max(1.0, PASS_TOKENS / length))
    per_epoch = max(1, math.ceil(sequences / batch))
    epochs = min(effort.epochs, max(1.0, effort.steps / per_epoch))
    why = f"{effort.steps:,} steps are wanted, {per_epoch:,} make a pass"
    if per_epoch > effort.most_steps:
        epochs, why = effort.most_steps / per_epoch, f"{effort.most_steps:,} steps are enough"
    epochs = round(epochs) if epochs >= 2 else float(f"{epochs:.2g}")
    steps = max(1, round(epochs * per_epoch))
    every = max(5, min(200, steps // 8))
    what = "sequences" if packs else "rows"
    found = {
        "epochs": Value(epochs, f"{steps:,} steps: {why}"),
        "batch_size": Value(
            min(batch, fits), f"{batch} {what} per step, about {batch * tokens:,.0f} tokens"
        ),
    }
    if fits < batch:
        found["gradient_accumulation"] = Value(batch // fits, f"{fits} {what} at a time fit")
    found["eval_every"] = Value(every, "an eighth of the steps")
    found["save_every"] = Value(every, "with each validation")
    if epochs > 1:
        found["patience"] = Value(3, "several passes can overfit: stop after 3 validations")
    return found


def _power_of_two(value: float) -> int:
    """Return the nearest power of two, by ratio."""
    return int(2 ** max(0, round(math.log2(value))))


def _propose_student(
    shape: Shape, rows: RowFacts, tune: Mapping[str, Value]
) -> dict[str, Value] | None:
    """Return the section of a student of half the layers, where one can pay."""
    layers = shape.layers or 0
    if rows.objective != "sft" or rows.train < STUDENT_ROWS or layers < STUDENT_LAYERS:
        return None
    kept = ("learning_rate", "epochs", "batch_size", "gradient_accumulation", "eval_every",
            "save_every")  # fmt: skip
    rank = int(tune["rank"].value)
    return {
        "train": Value("lora", "all weights of a small student learn rows by heart"),
        "student": Value({"layers": layers // 2}, f"half of {layers} layers; the better one ships"),
        "rank": Value(rank, "as the teacher"),
        "alpha": Value(float(2 * rank), "twice the rank"),
        **{key: Value(tune[key].value, "as the teacher") for key in kept if key in tune},
    }


def _propose_files(preset: str) -> dict[str, Value]:
    if preset == "fast":
        return {
            "gguf": Value(["Q8_0", "Q4_K_M"], "near lossless, and small"),
            "onnx": Value([], "none, to be done sooner"),
        }
    found = {
        "gguf": Value(["F16", "Q8_0", "Q4_K_M"], "what was trained, near lossless, and small"),
        "onnx": Value(["int4"], "small, for ONNX Runtime"),
    }
    if preset == "best":
        found["budget"] = Value(["bytes=Q4_K_M"], "a searched mix of types at the bytes of Q4_K_M")
    return found
