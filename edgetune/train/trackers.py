"""Trackers that training curves are sent to, by transformers' own integrations."""

from __future__ import annotations

from typing import Any

from transformers import Trainer
from transformers.integrations.integration_utils import (
    TensorBoardCallback,
    get_reporting_integration_callbacks,
)

from edgetune.recipe import Optimization, Training
from edgetune.train.inputs import TrainingRun

FOLDER = "tensorboard"  # of TensorBoard's files, beside the stages' folders


def add_trackers(trainer: Trainer, section: Optimization, run: TrainingRun) -> None:
    """Add the trackers that a recipe names; none is ever added otherwise.

    TensorBoard's files lie beside the stage's folder, so that they are no part of its artifact.
    """
    names = section.report_to if isinstance(section, Training) else ()
    stage = run.out.name.removesuffix(".part")
    if names and trainer.args.run_name is None:
        trainer.args.run_name = stage
    for name in names:
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            folder = run.out.parent / FOLDER / f"{stage}-{run.role}"
            writer: Any = SummaryWriter(log_dir=str(folder))
            trainer.add_callback(TensorBoardCallback(writer))
        else:
            trainer.add_callback(get_reporting_integration_callbacks([name])[0])
