"""Train a student to minimise any loss of :mod:`edgetune.distill.losses`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from edgetune.data.dataset.tables import lengths_of
from edgetune.data.encoded import Encoded
from edgetune.distill.cache import Cache
from edgetune.distill.losses import CrossEntropy, StudentLoss, loss_of, pad_targets
from edgetune.models.head import find_head
from edgetune.ops import choose
from edgetune.recipe import Optimization
from edgetune.train.arguments import count_steps, trainer_arguments
from edgetune.train.inputs import DistillationData, TrainingRun
from edgetune.train.loop import Outcome, run_trainer
from edgetune.train.precision import keep_trainable_float32
from edgetune.train.rows import RowsMixin

#: A context around the computing of a loss, such as other weights in place of the model's own.
Around = Callable[[Any], AbstractContextManager[Any]]


class Rows(Dataset):  # type: ignore[type-arg]
    """Encoded rows with their targets, when there is a cache."""

    def __init__(self, rows: Sequence[Encoded], cache: Cache | None) -> None:
        self._rows, self._cache = rows, cache

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return lengths_of(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._rows[index]
        return {"row": row, "target": self._cache[index] if self._cache else None}


def collate(examples: list[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad a batch to its longest row.

    Returns:
        ``input_ids``, ``attention_mask``, ``labels`` [B, T], labels already shifted to the position
        that predicts them (−100 elsewhere); with a cache also its targets for the trained
        positions in row-major order.
    """
    rows = [example["row"] for example in examples]
    longest = max(len(row.ids) for row in rows)
    ids_BT = torch.full((len(rows), longest), pad_id)
    mask_BT = torch.zeros((len(rows), longest), dtype=torch.long)
    labels_BT = torch.full((len(rows), longest), -100)
    for line, row in enumerate(rows):
        ids = torch.tensor(row.ids)
        ids_BT[line, : len(ids)] = ids
        mask_BT[line, : len(ids)] = 1
        trained = torch.tensor(row.trained[1:], dtype=torch.bool)
        labels_BT[line, : len(ids) - 1] = torch.where(trained, ids[1:], -100)
    batch = {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT}
    targets = [example["target"] for example in examples]
    return batch if targets[0] is None else {**batch, **pad_targets(targets)}


class DistillationTrainer(RowsMixin, Trainer):  # type: ignore[misc]
    """Transformers' trainer with one of the losses, summed over tokens and divided once a step."""

    def __init__(self, *, loss: StudentLoss, around: Around, **settings: Any) -> None:
        super().__init__(**settings)
        self._around = around
        self._lengths: list[int] = settings["train_dataset"].lengths
        self._loss = loss
        self._answers = CrossEntropy(choose("sparse_loss", "torch"))
        self._head = find_head(settings["model"])

    def row_lengths(self) -> Sequence[int]:
        return self._lengths

    def targets_in(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["labels"] != -100  # shifted by the collator

    def training_step(self, model: Any, *inputs: Any, **named: Any) -> torch.Tensor:
        with self._around(model):
            loss: torch.Tensor = super().training_step(model, *inputs, **named)
        return loss

    def prediction_step(self, model: Any, *inputs: Any, **named: Any) -> Any:
        with self._around(model):
            return super().prediction_step(model, *inputs, **named)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        # Validation is always against the answers, so that student and baseline can be compared.
        total, positions = loss_of(
            model, self._head, inputs, self._loss if model.training else self._answers
        )
        loss = total / (num_items_in_batch if num_items_in_batch is not None else positions)
        return (loss, {"loss": loss}) if return_outputs else loss


class TellProgress(TrainerCallback):
    """Tells the loss how far training is, before every step, resumed or not."""

    def __init__(self, loss: StudentLoss) -> None:
        self._loss = loss

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._loss.prepare(state.global_step / max(1, state.max_steps))


def train_student(
    student: Any,
    loss: StudentLoss,
    data: DistillationData,
    section: Optimization,
    run: TrainingRun,
    around: Around = nullcontext,
) -> Outcome:
    """Train ``student`` to minimise ``loss``.

    Args:
        student: adapters added, or all parameters trainable.
        loss: the objective.
        data: rows, and the cached targets that the loss reads.
        section: settings of the optimization.
        run: its role and seed, and where it writes.
        around: given the model, what holds while a loss and its gradient are computed; optimizer
            and checkpoints see the weights without it.
    """
    keep_trainable_float32(student)
    steps = count_steps(section, len(data.train))
    validation = data.take_validation(section.eval_rows)
    arguments = trainer_arguments(section, steps, run, student, bool(validation))
    trainer = DistillationTrainer(
        loss=loss,
        around=around,
        model=student,
        args=TrainingArguments(**arguments),
        train_dataset=Rows(data.train, data.cache),
        eval_dataset=Rows(validation, None) if validation else None,
        data_collator=lambda examples: collate(examples, data.pad_id),
        callbacks=[TellProgress(loss)],
    )
    tokens = sum(len(row.ids) for row in data.train)
    return run_trainer(trainer, section, tokens / len(data.train), run)
