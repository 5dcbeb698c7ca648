"""Supervised fine-tuning with TRL over rows that are already tokens with a loss mask."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from trl import SFTConfig, SFTTrainer

from edgetune.data.dataset.tables import TokenTable, lengths_of
from edgetune.data.encoded import Encoded
from edgetune.log import counted
from edgetune.models.batching import unmasked
from edgetune.models.head import find_head, head_only_at, hidden_at
from edgetune.ops.linear_loss import ChunkLoss, Head, linear_loss_sum
from edgetune.ops.sparse_loss import sparse_loss_
from edgetune.recipe import TuneSection
from edgetune.train.answer_score import AnswerScore
from edgetune.train.arguments import count_steps, trainer_arguments
from edgetune.train.inputs import TrainingData, TrainingRun
from edgetune.train.loop import Outcome, run_trainer
from edgetune.train.precision import is_fresh, keep_trainable_float32, unchanged_weights
from edgetune.train.rows import RowsMixin, TokensMixin
from edgetune.train.tuning_step import Trained, Tuning

TABLE_ROWS = 65_536  # of a table: its offsets are 32 bits wide
SMALL_LOGITS = 64 * 2**20  # bytes of a batch's logits at trained positions, in float32


class HeadLossMixin(TokensMixin):
    """Computes the loss of an :class:`SFTTrainer` from hidden states where that is quicker.

    TRL never holds the logits: it goes over them in tiles, and over each tile once more in the
    backward pass. Its tiles are a Triton kernel on a GPU. On a CPU they are some twenty passes over
    memory: 17.6 s for 2,272 tokens of a vocabulary of 151,936, where loss and gradient of a
    few positions at a time, both at once, take 1.6 s.
    """

    aux_loss_enabled: bool

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        labels_BT = F.pad(inputs["labels"][:, 1:], (0, 1), value=-100)
        trained_BT = labels_BT != -100
        labels_P = labels_BT[trained_BT]
        logits_bytes = 4 * labels_P.numel() * model.config.get_text_config().vocab_size
        if not (return_outputs or self.aux_loss_enabled):
            arguments = {n: value for n, value in unmasked(inputs).items() if n != "labels"}
            count = max(labels_P.numel(), 1) if num_items_in_batch is None else num_items_in_batch
            if logits_bytes <= SMALL_LOGITS:
                with head_only_at(model, trained_BT):
                    logits_PV = model(**arguments, use_cache=False).logits
                return F.cross_entropy(logits_PV.float(), labels_P, reduction="sum") / count
            head = self._head(model) if labels_BT.device.type == "cpu" else None
            if head is not None:
                hidden_PD = hidden_at(model, trained_BT, **arguments)
                return linear_loss_sum(hidden_PD, head, cross_entropy(labels_P)) / count
        trl: Any = super()
        return trl.compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _head(self, model: Any) -> Head | None:
        if not hasattr(self, "_found_head"):
            self._found_head = find_head(model)
        return self._found_head


class PackedTrainer(HeadLossMixin, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer for packed rows."""


class RowsTrainer(HeadLossMixin, RowsMixin, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer for rows that are not packed."""

    lengths: Sequence[int] = ()  # tokens of each row

    def row_lengths(self) -> Sequence[int]:
        return self.lengths


def cross_entropy(labels_P: torch.Tensor) -> ChunkLoss:
    """Return the cross-entropy to these labels, for a chunk of their positions."""
    return lambda logits_CV, first, last: sparse_loss_(logits_CV, labels_P[first:last], None)


def train(tuning: Tuning) -> Trained:
    """Train a step's model on the answers of its rows; on every token of plain texts."""
    rows, validation = tuning.encode("train"), tuning.encode("validation")
    run = tuning.run
    if tuning.section.best_by == "exact_match":
        asked = tuning.section.best_rows
        run = replace(run, score=AnswerScore(tuning.encoder, tuning.rows.validation, asked))
    outcome = tune(
        tuning.model, tuning.tokenizer, TrainingData(rows.encoded, validation.encoded),
        tuning.section, tuning.data.max_length, run,
    )  # fmt: skip
    facts = dict(rows.facts)
    if tuning.section.train_on != "completions":
        facts["trained_tokens"] = count_trained(rows.encoded, tuning.section.train_on)
    return Trained(outcome, facts)


def tune(
    model: Any,
    tokenizer: Any,
    data: TrainingData,
    section: TuneSection,
    max_length: int,
    run: TrainingRun,
) -> Outcome:
    """Train ``model``'s trainable parameters on the trained positions of the train rows.

    Args:
        model: with adapters already added, or all parameters trainable.
        tokenizer: for the padding token.
        data: encoded rows.
        section: settings of the optimization.
        max_length: tokens of a packed sequence where ``section.pack_length`` is not given.
        run: its seed, and where it writes.
    """
    # 1. TRL's trainer over rows that are tokens already.
    disable_progress_bar()
    keep_trainable_float32(model)
    validation = data.take_validation(section.eval_rows)
    path = run.checkpoints.parent / f"{run.role}-rows.arrow"
    train_set = as_dataset(data.train, path, section.train_on)
    eval_set = as_dataset(validation, None, section.train_on)
    arguments = trainer_arguments(section, 1, run, model, bool(validation))
    config = SFTConfig(
        **arguments,
        max_length=section.pack_length or max_length,
        packing=section.packing,
        eval_packing=False,
        completion_only_loss=False,  # the labels carry the mask already
        neftune_noise_alpha=section.neftune_alpha,  # Jain et al. 2023, arXiv 2310.05914
    )
    with nullcontext() if is_fresh(model) else unchanged_weights(model):
        trainer: Any = (PackedTrainer if section.packing else RowsTrainer)(
            model=model,
            args=config,
            train_dataset=train_set,
            eval_dataset=eval_set if validation else None,
            processing_class=tokenizer,
        )
    if not section.packing:
        trainer.lengths = lengths_of(data.train)
    # TRL casts QLoRA adapters to bfloat16 as it is built; a resumed run would load them as float32
    # and go on differently. In float32 throughout, kill and resume are bit-identical.
    keep_trainable_float32(trainer.model)

    # 2. As many steps as its sequences need: rows, or several packed into one.
    sequences = len(trainer.train_dataset)
    steps = count_steps(section, sequences)
    trainer.args.max_steps = steps
    run.log.say(
        f"{counted(len(data.train), 'row')} in {counted(sequences, 'sequence')}, "
        f"{counted(steps, 'step')}"
    )
    tokens = sum(lengths_of(data.train))
    return run_trainer(trainer, section, tokens / sequences, run)


def as_dataset(
    rows: Sequence[Encoded], path: Path | None = None, train_on: str = "completions"
) -> Dataset:
    """Return ``input_ids`` and ``labels`` (−100 where a token is not trained on), int32: 8 bytes a
    token for both. A row's first token has nothing to be predicted from: packed after another row
    it would be predicted from that.

    Args:
        rows: to train on.
        path: file that the tokens of a prepared dataset are written to and mapped from; they stay
            out of memory then.
        train_on: the recipe's ``tune.train_on``.
    """
    parts = [rows[at : at + TABLE_ROWS] for at in range(0, len(rows), TABLE_ROWS)] or [rows]
    if path is None or not isinstance(rows, TokenTable):
        return Dataset(pa.concat_tables([_as_table(part, train_on) for part in parts]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, _TABLE) as stream:
        for part in parts:
            stream.write_table(_as_table(part, train_on))
    return Dataset.from_file(str(path))


_TABLE = pa.schema([(name, pa.list_(pa.int32())) for name in ("input_ids", "labels")])


def _as_table(rows: Sequence[Encoded], train_on: str) -> pa.Table:
    ids = np.concatenate([np.asarray(row.ids, np.int32) for row in rows] or [np.empty(0, np.int32)])
    trained = np.concatenate([np.asarray(row.trained, bool) for row in rows] or [np.empty(0, bool)])
    ends = np.cumsum([0, *(len(row.ids) for row in rows)], dtype=np.int32)
    if train_on == "all":
        trained[:] = True
    elif train_on == "last":
        trained &= _in_last_run(trained, ends)
    trained[ends[:-1][np.diff(ends) > 0]] = False
    columns = {"input_ids": ids, "labels": np.where(trained, ids, np.int32(-100))}
    return pa.table(
        {name: pa.ListArray.from_arrays(ends, values) for name, values in columns.items()}
    )


def count_trained(rows: Sequence[Encoded], train_on: str) -> int:
    """Return how many tokens have a loss under a ``tune.train_on``."""
    parts = (rows[at : at + TABLE_ROWS] for at in range(0, len(rows), TABLE_ROWS))
    tables = (_as_table(part, train_on) for part in parts)
    return sum(int((one["labels"].combine_chunks().values.to_numpy() >= 0).sum()) for one in tables)


def _in_last_run(trained: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return which positions are in or behind the last run of trained ones of their row.

    Args:
        trained: bool [tokens], row after row.
        ends: where rows begin and end, [rows + 1].
    """
    before = np.concatenate([[False], trained[:-1]])
    before[ends[:-1][np.diff(ends) > 0]] = False
    begins = np.where(trained & ~before, np.arange(len(trained)), -1)
    found = np.zeros(len(trained), bool)
    for first, last in pairwise(ends):
        if last > first:
            found[max(int(begins[first:last].max()), first) : last] = True
    return found
