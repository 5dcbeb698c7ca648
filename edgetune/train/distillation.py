"""Train a student on its own: the teacher has left its distribution in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from edgetune.data.encode import Encoded
from edgetune.distill.cache import Cache
from edgetune.distill.losses import cross_entropy_sum, mixed_sum
from edgetune.log import Log
from edgetune.models.head import head_only_at
from edgetune.recipe import DistillSection
from edgetune.train.arguments import count_steps, trainer_arguments
from edgetune.train.loop import Outcome, run_trainer, write_metrics
from edgetune.train.rows import RowsMixin
from edgetune.train.sft import keep_trainable_float32


class Rows(Dataset):  # type: ignore[type-arg]
    """Encoded rows with their targets, when there is a teacher."""

    def __init__(self, rows: Sequence[Encoded], cache: Cache | None) -> None:
        self._rows, self._cache = rows, cache

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row.ids) for row in self._rows]

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._rows[index]
        return {"row": row, "target": self._cache[index] if self._cache else None}


def collate(examples: list[dict[str, Any]], pad_id: int, draws: int) -> dict[str, torch.Tensor]:
    """Pad a batch to its longest row.

    Returns:
        ``input_ids``, ``attention_mask``, ``labels`` [B, T], labels already shifted to the position
        that predicts them (−100 elsewhere); with a teacher ``teacher_ids``, ``teacher_share``
        [P, K] for the P trained positions in row-major order.
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
        trained = torch.tensor(row.trained[1:])
        labels_BT[line, : len(ids) - 1] = torch.where(trained, ids[1:], -100)
    batch = {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT}
    targets = [example["target"] for example in examples]
    if targets[0] is None:
        return batch
    lengths = np.concatenate([np.diff(target.offsets) for target in targets])
    filled_PK = np.arange(int(lengths.max(initial=1)))[None, :] < lengths[:, None]
    ids_PK = np.zeros(filled_PK.shape, dtype=np.int64)
    share_PK = np.zeros(filled_PK.shape, dtype=np.float32)
    ids_PK[filled_PK] = np.concatenate([target.ids for target in targets])
    share_PK[filled_PK] = np.concatenate([target.counts for target in targets]) / draws
    return {
        **batch,
        "teacher_ids": torch.from_numpy(ids_PK),
        "teacher_share": torch.from_numpy(share_PK),
    }


class DistillationTrainer(RowsMixin, Trainer):  # type: ignore[misc]
    """Transformers' trainer with the mixed loss, summed over tokens and divided once a step."""

    def __init__(self, *, kl_weight: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._lengths: list[int] = settings["train_dataset"].lengths
        self._kl_weight = kl_weight
        self.model_accepts_loss_kwargs = True  # the loss divides by the whole step's tokens itself

    def row_lengths(self) -> Sequence[int]:
        return self._lengths

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        labels_BT = inputs["labels"]
        trained_BT = labels_BT != -100
        labels_P = labels_BT[trained_BT]
        with head_only_at(model, trained_BT):
            outputs = model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                use_cache=False,
            )
        logits_PV = outputs.logits
        if "teacher_ids" in inputs and model.training:
            loss = mixed_sum(
                logits_PV,
                labels_P,
                inputs["teacher_ids"],
                inputs["teacher_share"],
                self._kl_weight,
            )
        else:
            loss = cross_entropy_sum(logits_PV, labels_P)
        count = num_items_in_batch if num_items_in_batch is not None else labels_P.numel()
        loss = loss / count
        return (loss, outputs) if return_outputs else loss


def train_student(
    student: Any,
    cache: Cache | None,
    train: Sequence[Encoded],
    validation: Sequence[Encoded],
    pad_id: int,
    section: DistillSection,
    seed: int,
    out: Path,
    role: str,
    log: Log,
) -> Outcome:
    """Train ``student``; with ``cache`` to the teacher, without it to the answers alone.

    Args:
        student: adapters added, or all parameters trainable.
        cache: of exactly these ``train`` rows, or none for the baseline.
        role: ``student`` or ``baseline``: names the checkpoints and the curve.
    """
    keep_trainable_float32(student)
    device = next(student.parameters()).device.type
    steps = count_steps(section, len(train))
    folder = out / "scratch" / role
    arguments = trainer_arguments(section, steps, folder, seed, device, bool(validation))
    draws = cache.draws if cache else 1
    trainer = DistillationTrainer(
        kl_weight=section.kl_weight,
        model=student,
        args=TrainingArguments(**arguments),
        train_dataset=Rows(train, cache),
        eval_dataset=Rows(validation, None) if validation else None,
        data_collator=lambda examples: collate(examples, pad_id, draws),
    )
    tokens = sum(len(row.ids) for row in train) / len(train)
    outcome = run_trainer(
        trainer,
        steps,
        tokens * section.batch_size * section.gradient_accumulation,
        section.patience,
        role,
        log,
    )
    write_metrics(trainer.state.log_history, role, out / "metrics.jsonl")
    return outcome
