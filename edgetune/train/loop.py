"""Run a trainer to its end, whatever interrupted it before: one loop for teacher and student."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, Trainer

from edgetune.errors import EdgetuneError, Interrupted
from edgetune.models.hardware import TRAINING_BLOCK_BYTES, trim_malloc
from edgetune.recipe import Optimization, Training
from edgetune.train.callbacks import (
    KeepBest,
    MeasureScore,
    SealCheckpoints,
    ShowProgress,
    StopWhenAsked,
    find_best,
    newest_checkpoint,
)
from edgetune.train.inputs import TrainingRun
from edgetune.train.lora_plus import raise_rate_of_b
from edgetune.train.micro_batches import HalvingMixin
from edgetune.train.trackers import add_trackers


@dataclass(frozen=True)
class Outcome:
    """What a training gave: steps done, last train loss, best and last validation loss."""

    steps: int
    train_loss: float | None
    validation_loss: float | None
    best: Path | None  # folder with the best weights, when patience was asked for
    resumed_from: int


def run_trainer(
    trainer: Trainer, section: Optimization, tokens_per_row: float, run: TrainingRun
) -> Outcome:
    """Train to the trainer's ``max_steps``, from the newest sealed checkpoint if there is one.

    Args:
        trainer: with model, rows and arguments.
        section: batch size and patience.
        tokens_per_row: tokens of a sequence on average, for the speed that the log tells.
        run: where checkpoints are and the curve goes, and the score of the best weights.

    Raises:
        Interrupted: a stop was asked for; a checkpoint was saved.
        EdgetuneError: the loss is no longer a number.
    """
    log, role, patience = run.log, run.role, section.patience
    steps = trainer.args.max_steps
    tokens_per_step = tokens_per_row * section.batch_size * section.gradient_accumulation
    stop, best = StopWhenAsked(), run.checkpoints / "best"
    checkpoint = newest_checkpoint(run.checkpoints)
    if isinstance(trainer, HalvingMixin):
        trainer.run_log = log
    if trainer.args.device.type == "cpu":
        trim_malloc(TRAINING_BLOCK_BYTES)
    if isinstance(section, Training) and section.lora_plus_ratio != 1:
        raise_rate_of_b(trainer, section.lora_plus_ratio)
    with log.progress(role, steps) as bar, stop.listening(log):
        trainer.remove_callback(PrinterCallback)  # it prints dictionaries to stdout
        trainer.add_callback(ShowProgress(log, bar, tokens_per_step, run))
        if patience is not None:
            _keep_best(trainer, run, best, patience)
        trainer.add_callback(stop)
        add_trackers(trainer, section, run)
        trainer.add_callback(SealCheckpoints())
        if checkpoint:
            log.say(f"{role}: going on from step {checkpoint.name.rpartition('-')[2]}")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    history = trainer.state.log_history
    if stop.asked and trainer.state.global_step < steps:
        raise Interrupted(
            f"stopped at step {trainer.state.global_step} of {steps}; the checkpoint is saved",
            hint="the same command goes on from there",
        )
    losses = [row["loss"] for row in history if "loss" in row]
    if losses and losses[-1] != losses[-1]:
        raise EdgetuneError(
            "the loss is not a number any more",
            where=role,
            hint="lower learning_rate, or use compute_dtype: float32",
        )
    write_metrics(history, run)
    validation = [row["eval_loss"] for row in history if "eval_loss" in row]
    kept = find_best(history, run.best_by) if patience and validation else -1
    return Outcome(
        steps=trainer.state.global_step,
        train_loss=losses[-1] if losses else None,
        validation_loss=validation[kept] if validation else None,
        best=best if patience is not None and best.is_dir() else None,
        resumed_from=int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
    )


def _keep_best(trainer: Trainer, run: TrainingRun, best: Path, patience: int) -> None:
    if run.score is not None:
        trainer.add_callback(MeasureScore(run.score))
    trainer.add_callback(KeepBest(best, patience, run.best_by))


def write_metrics(history: list[dict[str, Any]], run: TrainingRun) -> None:
    """Append the trainer's history to ``metrics.jsonl``, which the report's curves come from."""
    names = ["step", "loss", "eval_loss", "learning_rate"]
    names += [f"eval_{run.score.name}"] if run.score else []
    names += [prefix + name for name in run.logged for prefix in ("", "eval_")]
    with (run.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
        for row in history:
            kept = {name: row[name] for name in names if name in row}
            if "loss" in kept or "eval_loss" in kept:
                file.write(json.dumps({"role": run.role, **kept}) + "\n")
