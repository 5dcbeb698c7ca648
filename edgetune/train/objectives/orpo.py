"""ORPO: supervised tuning on chosen answers with an odds ratio against rejected ones.

Hong et al. 2024, arXiv 2403.07691; the loss is TRL's, and no reference is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # its notice is for those who call it

from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from edgetune.data.preference_tokens import write_pairs
from edgetune.train.loop import run_trainer
from edgetune.train.precision import keep_trainable_float32
from edgetune.train.preference.batches import Example, PairCollator
from edgetune.train.preference.figures import pair_figures
from edgetune.train.preference.log_probs import score_rows
from edgetune.train.preference.rows import TokenRows, encode_splits, pair_sequences
from edgetune.train.preference.trainer import PreferenceMixin, best_model, build_trainer
from edgetune.train.tuning_step import Trained, Tuning


class OddsTrainer(PreferenceMixin, ORPOTrainer):
    """TRL's trainer of odds ratios."""


class OddsCollator(PairCollator):
    """Puts pairs together with the names that this trainer of TRL's gives both sides."""

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        both, count = super().__call__(examples), len(examples)
        labels_RT = both["input_ids"].masked_fill(both["completion_mask"] == 0, -100)
        columns = {**both, "labels": labels_RT}
        return {
            f"{side}_{name}": columns[name][rows]
            for side, rows in (("chosen", slice(None, count)), ("rejected", slice(count, None)))
            for name in ("input_ids", "attention_mask", "labels")
        }


def train(tuning: Tuning) -> Trained:
    """Train on pairs of a chosen and a rejected answer, without a reference.

    Raises:
        InputError: rows without a second answer.
    """
    section, run, settings = tuning.section, tuning.run, tuning.section.orpo
    keep_trainable_float32(tuning.model)

    # 1. Rows to tokens, and what the model says of validation rows before its first update.
    splits = encode_splits(tuning, write_pairs)
    validation = TokenRows(splits.validation.path)
    counts_N2 = np.array([[sum(mask) for _, mask in pair_sequences(row)] for row in validation])
    before = score_rows(tuning.model, validation, pair_sequences, run.log)

    # 2. TRL's trainer, pairs of similar length together.
    trainer = build_trainer(
        (OddsTrainer, ORPOConfig), tuning, TokenRows(splits.train.path),
        validation.take(section.eval_rows), OddsCollator(tuning.tokenizer.pad_token_id),
        {"beta": settings.beta, "max_length": tuning.data.max_length},
    )  # fmt: skip
    trainer.lengths = splits.train.lengths
    trainer.use_dpo_data_collator = True  # ours gives what that one gives
    outcome = run_trainer(trainer, section, splits.tokens_per_row, run)

    # 3. What it gave, on all validation rows: the loss is of means over an answer's tokens.
    after = score_rows(best_model(trainer.model, outcome), validation, pair_sequences, run.log)
    figures = pair_figures(before / counts_N2, after / counts_N2, settings.beta)
    return Trained(outcome, splits.train.facts, figures)
