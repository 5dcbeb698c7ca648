"""A reward model: one score for an answer, higher for chosen answers than for rejected ones.

Bradley and Terry 1952 by way of Ouyang et al. 2022, arXiv 2203.02155, section 3.5; the loss is
TRL's. What it gives is no language model: ``grpo`` and ``rloo`` ask it for rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from trl import RewardConfig, RewardTrainer

from edgetune.data.preference_tokens import write_pairs
from edgetune.log import Log
from edgetune.models.reward_head import add_reward_head, score_sequences
from edgetune.train.loop import run_trainer
from edgetune.train.precision import keep_trainable_float32
from edgetune.train.preference.batches import Example, PairCollator
from edgetune.train.preference.figures import score_figures
from edgetune.train.preference.rows import TokenRows, encode_splits, pair_sequences
from edgetune.train.preference.trainer import PreferenceMixin, best_model, build_trainer
from edgetune.train.tuning_step import Trained, Tuning


class ScoreTrainer(PreferenceMixin, RewardTrainer):
    """TRL's trainer of reward models."""


class ScoreCollator(PairCollator):
    """Puts pairs together as a reward model takes them: it scores whole answers."""

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        both = super().__call__(examples)
        return {name: both[name] for name in ("input_ids", "attention_mask")}


def train(tuning: Tuning) -> Trained:
    """Train a head for one score, and the adapter or the weights below it, on pairs.

    Raises:
        InputError: rows without a second answer.
    """
    section, run, settings = tuning.section, tuning.run, tuning.section.reward
    add_reward_head(tuning.model, run.seed)
    keep_trainable_float32(tuning.model)

    # 1. Rows to tokens, and what the head says of validation rows before its first update.
    splits = encode_splits(tuning, write_pairs)
    validation = TokenRows(splits.validation.path)
    before = score_pairs(tuning.model, validation, run.log)

    # 2. TRL's trainer, pairs of similar length together.
    trainer = build_trainer(
        (ScoreTrainer, RewardConfig), tuning, TokenRows(splits.train.path),
        validation.take(section.eval_rows), ScoreCollator(tuning.tokenizer.pad_token_id),
        {"center_rewards_coefficient": settings.center_rewards_coefficient},
    )  # fmt: skip
    trainer.lengths = splits.train.lengths
    outcome = run_trainer(trainer, section, splits.tokens_per_row, run)

    # 3. What it gave, on all validation rows.
    after = score_pairs(best_model(trainer.model, outcome), validation, run.log)
    return Trained(outcome, splits.train.facts, score_figures(before, after))


def score_pairs(model: Any, rows: TokenRows, log: Log) -> np.ndarray:
    """Return the scores of chosen and rejected answers, float32 [rows, 2]."""
    every = [ids for row in rows for ids, _ in pair_sequences(row)]
    with log.progress("validation answers", sum(map(len, every))) as bar:
        return score_sequences(model, every, bar).reshape(len(rows), 2)
