"""DPO and its relatives: a chosen answer is made more probable than a rejected one.

Rafailov et al. 2023, arXiv 2305.18290; the loss is TRL's, whatever its kind. The reference is what
the model was before the first update, as two numbers a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from trl import DPOConfig, DPOTrainer

from edgetune.data.preference_tokens import write_pairs
from edgetune.errors import InputError
from edgetune.recipe.objectives import DpoSection
from edgetune.train.loop import run_trainer
from edgetune.train.precision import keep_trainable_float32
from edgetune.train.preference.batches import PairCollator
from edgetune.train.preference.figures import pair_figures
from edgetune.train.preference.log_probs import score_from_hidden, score_rows
from edgetune.train.preference.reference import find_reference
from edgetune.train.preference.rows import TokenRows, encode_splits, pair_sequences, seen_rows
from edgetune.train.preference.trainer import PreferenceMixin, best_model, build_trainer
from edgetune.train.tuning_step import Trained, Tuning


class PairTrainer(PreferenceMixin, DPOTrainer):
    """TRL's trainer of pairs."""


def train(tuning: Tuning) -> Trained:
    """Train on pairs of a chosen and a rejected answer.

    Raises:
        InputError: rows without a second answer, or a loss that compares rows with batches of one.
    """
    section, run = tuning.section, tuning.run
    settings = section.dpo
    if {"aot", "aot_unpaired"} & set(settings.losses) and section.batch_size < 2:
        raise InputError(
            "aot compares the rows of a batch with each other, and batches have one row",
            where="tune.batch_size", hint="set it to 2 at least",
        )  # fmt: skip
    keep_trainable_float32(tuning.model)

    # 1. Rows to tokens, and what the model says of them before its first update.
    splits = encode_splits(tuning, write_pairs)
    seen = seen_rows(splits.train, section)
    train_rows, validation = TokenRows(splits.train.path, seen), TokenRows(splits.validation.path)
    reference = find_reference(tuning, train_rows, pair_sequences)
    before = find_reference(tuning, validation, pair_sequences)

    # 2. TRL's trainer, pairs of similar length together.
    trainer = build_trainer(
        (PairTrainer, DPOConfig), tuning, _with_reference(train_rows, reference),
        _with_reference(validation, before).take(section.eval_rows),
        PairCollator(tuning.tokenizer.pad_token_id), dpo_arguments(settings),
    )  # fmt: skip
    trainer.lengths = splits.train.lengths[seen]
    score_from_hidden(trainer.model)
    outcome = run_trainer(trainer, section, splits.tokens_per_row, run)

    # 3. What it gave, on all validation rows.
    after = score_rows(best_model(trainer.model, outcome), validation, pair_sequences, run.log)
    figures = pair_figures(before, after, settings.beta)
    return Trained(outcome, splits.train.facts, figures)


def _with_reference(rows: TokenRows, reference_R2: np.ndarray) -> TokenRows:
    chosen, rejected = reference_R2.T
    return rows.with_columns({"ref_chosen_logps": chosen, "ref_rejected_logps": rejected})


def dpo_arguments(settings: DpoSection) -> dict[str, Any]:
    """Return TRL's arguments of a recipe's ``tune.dpo``."""
    weights = settings.loss_weights
    return {
        "beta": settings.beta,
        "loss_type": list(settings.losses),
        "loss_weights": None if weights is None else list(weights),
        "label_smoothing": settings.label_smoothing,
        "precompute_ref_log_probs": True,
    }
