"""From the recipe's training knobs to the trainer's arguments."""

from __future__ import annotations

import math
from typing import Any

import torch

from edgetune.recipe import Optimization, Training
from edgetune.train.inputs import TrainingRun


def count_steps(section: Optimization, rows: int) -> int:
    """Return optimizer steps: ``max_steps``, or ``epochs`` over ``rows`` sequences."""
    if section.max_steps is not None:
        return section.max_steps
    forwards = math.ceil(rows / section.batch_size)
    return max(1, math.ceil(section.epochs * math.ceil(forwards / section.gradient_accumulation)))


def trainer_arguments(
    section: Optimization, steps: int, run: TrainingRun, model: Any, has_validation: bool
) -> dict[str, Any]:
    """Return the keyword arguments that ``TrainingArguments`` and ``SFTConfig`` share.

    Mixed precision stays off: weights are loaded in the compute dtype and trainable ones are kept
    in float32, which is what makes a resumed run equal to an unbroken one. Only over a base in
    float16 it is on, for its loss scaling: gradients below 6e-8 would be zero there (Micikevicius
    et al. 2018, arXiv 1710.03740, section 3.2).

    Args:
        section: settings of the optimization.
        steps: optimizer steps.
        run: its seed, and where it writes.
        model: says by its weights where and in what it is computed.
        has_validation: whether there are rows to validate on.
    """
    device = next(model.parameters()).device.type
    scaled = device == "cuda" and any(p.dtype == torch.float16 for p in model.parameters())
    return {
        "output_dir": str(run.checkpoints),
        "max_steps": steps,
        "per_device_train_batch_size": section.batch_size,
        "per_device_eval_batch_size": section.batch_size,
        "gradient_accumulation_steps": section.gradient_accumulation,
        "learning_rate": section.learning_rate,
        "warmup_steps": section.warmup_ratio,  # below 1 it is a share of all steps
        "weight_decay": section.weight_decay,
        "max_grad_norm": section.max_grad_norm,
        "gradient_checkpointing": section.gradient_checkpointing,
        "eval_strategy": "steps" if has_validation else "no",
        "eval_steps": section.eval_every,
        "save_strategy": "steps",
        "save_steps": section.save_every,
        "save_total_limit": 2,
        "logging_steps": min(10, section.eval_every),
        "logging_first_step": True,
        "seed": run.seed,
        "data_seed": run.seed,
        "use_cpu": device == "cpu",
        "bf16": False,
        "fp16": scaled,
        "disable_tqdm": True,
        "report_to": [],
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": device != "cpu",
        **_optimizer_arguments(section),
    }


def _optimizer_arguments(section: Optimization) -> dict[str, Any]:
    """Return optimizer and schedule: a recipe's, or fused AdamW and cosine for QAT."""
    if not isinstance(section, Training):
        return {"optim": "adamw_torch_fused", "lr_scheduler_type": "cosine"}
    kind = section.scheduler
    ends = {"min_lr_rate": section.min_lr_ratio} if kind == "cosine_with_min_lr" else {}
    return {
        "optim": section.optimizer,
        "lr_scheduler_type": kind,
        "lr_scheduler_kwargs": ends,
    }
