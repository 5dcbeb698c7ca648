"""QLoRA of Llama 3.1 8 B's shape on cards of 8, 12 and 24 GB, here and through plain TRL + PEFT.

The process may hold so much of the card's memory and no more. For each size and side: the longest
row that trains (doubled until memory runs out), its tokens/s, the peak that NVML tells, and the
peak that `edgetune plan` estimates for it.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import TrainerCallback
from transformers import trainer as trainer_module

from bench.gpu.large_model import DTYPE, SHAPE, SMALL, make_packed, make_rows
from edgetune.errors import EdgetuneError
from edgetune.log import Log
from edgetune.measure.vram import VramMeter
from edgetune.models.adapters import add_adapter
from edgetune.models.resolve import resolve_model
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.plan.estimate import estimate_stages
from edgetune.plan.job import Job
from edgetune.plan.machine import Machine
from edgetune.plan.shape import Tokens, read_shape
from edgetune.recipe import Recipe, TuneSection
from edgetune.train.inputs import TrainingData, TrainingRun
from edgetune.train.objectives import sft

CAPS = (8, 12, 24)  # GB
FIRST, LAST = 512, 131_072  # tokens of a row
STEPS = 3
RANK = 16


@dataclass(frozen=True)
class Tried:
    """A training of some steps at one length."""

    length: int
    tokens_per_s: float
    peak_bytes: int
    peak_source: str


def section(steps: int = STEPS) -> TuneSection:
    """Return the settings that both sides train with."""
    return TuneSection(
        rank=RANK, alpha=2.0 * RANK, learning_rate=1e-4, max_steps=steps, batch_size=1,
        packing=False, gradient_checkpointing=True, eval_every=1000, save_every=1000,
    )  # fmt: skip


class StepEnds(TrainerCallback):  # type: ignore[misc]
    """Notes when each step of transformers' trainer ends, on which both sides are built."""

    seen: ClassVar[list[float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seen.append(time.perf_counter())


def train_here(base: Any, length: int, vocabulary: int) -> Any:
    """Train by what `edgetune tune` calls; return the model."""
    model = add_adapter(base, section(), 0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        rows = make_rows(vocabulary, STEPS, length)
        run = TrainingRun("teacher", 0, out, Log(out / "log.jsonl", quiet=True))
        tokenizer = load_tokenizer(resolve_model("embedded:base"))
        sft.tune(model, tokenizer, TrainingData(rows), section(), length, run)
    return model


def train_plain(base: Any, length: int, vocabulary: int) -> Any:
    """Train by TRL's trainer with PEFT's own layers; return the model."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = [list(row.ids) for row in make_rows(vocabulary, STEPS, length)]
    on_gpu = base.device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=base,
            args=SFTConfig(
                output_dir=folder, max_steps=STEPS, per_device_train_batch_size=1,
                max_length=length, learning_rate=1e-4, bf16=True, use_cpu=not on_gpu, report_to=[],
                save_strategy="no", disable_tqdm=True, gradient_checkpointing=True,
            ),
            train_dataset=Dataset.from_dict({"input_ids": rows, "labels": rows}),
            processing_class=load_tokenizer(resolve_model("embedded:base")),
            peft_config=LoraConfig(
                r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )  # fmt: skip
        trainer.train()
    return trainer.model


SIDES: dict[str, Callable[[Any, int, int], Any]] = {
    "edgetune": train_here,
    "trl": train_plain,
}


def try_length(base: Any, side: str, length: int, vocabulary: int) -> Tried | None:
    """Train some steps at a length; nothing where the memory does not suffice."""
    model: Any = None
    try:
        StepEnds.seen.clear()
        with VramMeter() as meter:
            model = SIDES[side](base, length, vocabulary)
        seconds = StepEnds.seen[-1] - StepEnds.seen[0]
        return Tried(length, round((STEPS - 1) * length / seconds, 1), meter.peak, meter.source)
    except (torch.cuda.OutOfMemoryError, EdgetuneError):
        return None
    finally:
        del model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def find_longest(
    make: Callable[[], Any], side: str, first: int, last: int, vocabulary: int
) -> Tried | None:
    """Double the length until memory runs out; the base is made anew, adapters leave nothing."""
    best, length = None, first
    while length <= last:
        base = make()
        tried = try_length(base, side, length, vocabulary)
        del base
        if tried is None:
            break
        best, length = tried, 2 * length
    return best


def plan_bytes(config: Any, length: int, device: str) -> int:
    """Return the peak that a plan estimates: of the GPU, or of RAM without one."""
    recipe = Recipe.model_validate({
        "name": "caps", "model": {"path": "embedded:base", "device": device},
        "data": {"train": "embedded:devices/train.jsonl", "max_length": length},
        "tune": section().model_dump(exclude_unset=True),
    })  # fmt: skip
    shape = read_shape(config)
    large, on_gpu = 1 << 50, device == "cuda"
    machine = Machine(device, large, large * on_gpu, large, 1e14, 1e12, 1e12, 5e-6)
    tokens = Tokens(STEPS, 0, float(length), length, 1.0)
    job = Job(recipe, config, shape, config, shape, tokens, machine, "bfloat16")
    (estimate,) = estimate_stages(job)
    return estimate.gpu_bytes or estimate.ram_bytes


def main() -> None:
    """Measure each side at each size; print what is known after every one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true")
    cpu = parser.parse_args().cpu
    shape, device = (SMALL, "cpu") if cpu else (SHAPE, "cuda")
    first, last = (32, 64) if cpu else (FIRST, LAST)
    trainer_module.DEFAULT_CALLBACKS.append(StepEnds)
    faults: list[str] = []
    found: dict[str, Any] = {"faults": faults, "shape": shape, "dtype": str(DTYPE), "rank": RANK}
    starts = dict.fromkeys(SIDES, first)  # a larger card trains at least what a smaller one did
    for cap in CAPS[:1] if cpu else CAPS:
        if not cpu:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, cap * 1e9 / total))
        figures: dict[str, Any] = {}
        for side in SIDES:
            best = find_longest(
                lambda: make_packed(shape, device), side, starts[side], last, shape["vocab_size"]
            )
            if best is None:
                figures[side] = None
                faults += [f"no row of {starts[side]} trains in {cap} GB"] * (side == "edgetune")
                continue
            starts[side] = best.length
            config = make_config(shape)
            figures[side] = {**vars(best), "planned_bytes": plan_bytes(config, best.length, device)}
        both = [figures[side] for side in SIDES]
        if all(both):
            figures["context_ratio"] = both[0]["length"] / both[1]["length"]
        found[f"{cap}_gb"] = figures
        print(json.dumps(found), flush=True)


def make_config(shape: dict[str, int]) -> Any:
    """Return the model's configuration as transformers reads it."""
    from transformers import LlamaConfig

    return LlamaConfig(**shape, max_position_embeddings=LAST, tie_word_embeddings=False)


if __name__ == "__main__":
    main()
