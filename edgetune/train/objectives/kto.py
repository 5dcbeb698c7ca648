"""KTO: liked answers are made more probable, disliked ones less, without pairs.

Ethayarajh et al. 2024, arXiv 2402.01306; the loss is TRL's. The reference is what the model was
before the first update, as numbers a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from trl import KTOConfig, KTOTrainer

from edgetune.data.preference_tokens import PreferenceTokens, write_thumbs
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe.objectives import KtoSection
from edgetune.train.length_batches import LengthBatches
from edgetune.train.loop import run_trainer
from edgetune.train.precision import keep_trainable_float32
from edgetune.train.preference.batches import ThumbCollator
from edgetune.train.preference.figures import thumb_figures
from edgetune.train.preference.log_probs import score_from_hidden, score_rows
from edgetune.train.preference.reference import find_reference
from edgetune.train.preference.rows import (
    ThumbRows,
    TokenRows,
    encode_splits,
    seen_rows,
    thumb_sequences,
)
from edgetune.train.preference.trainer import PreferenceMixin, best_model, build_trainer
from edgetune.train.tuning_step import Trained, Tuning


class ThumbTrainer(PreferenceMixin, KTOTrainer):
    """TRL's trainer of answers with a thumb; each has another's beside it."""


def train(tuning: Tuning) -> Trained:
    """Train on answers with a thumb up or down.

    Raises:
        InputError: thumbs of one kind, or batches of one row, whose KL term is its own reward.
    """
    section, run, settings = tuning.section, tuning.run, tuning.section.kto
    if settings.loss_type == "kto" and section.batch_size < 2:
        raise InputError(
            "kto estimates a KL divergence from the rows of a batch, and batches have one row",
            where="tune.batch_size", hint="set it to 2 at least, with less gradient_accumulation",
        )  # fmt: skip
    keep_trainable_float32(tuning.model)

    # 1. Rows to tokens, in the order of training, and what the model says before its first update.
    splits = encode_splits(tuning, write_thumbs)
    warn_of_weights(splits.train.facts["liked"], len(splits.train), settings, run.log)
    train_rows = _order(splits.train, tuning, run.seed)
    validation = TokenRows(splits.validation.path)
    before = find_reference(tuning, validation, thumb_sequences)
    judged = validation.take(section.eval_rows)
    eval_rows = ThumbRows(judged.file, judged.order, section.batch_size)

    # 2. TRL's trainer.
    trainer = build_trainer(
        (ThumbTrainer, KTOConfig), tuning, _with_reference(train_rows, tuning),
        _with_reference(eval_rows, tuning), ThumbCollator(tuning.tokenizer.pad_token_id),
        kto_arguments(settings),
    )  # fmt: skip
    score_from_hidden(trainer.model)
    outcome = run_trainer(trainer, section, splits.tokens_per_row, run)

    # 3. What it gave, on all validation rows.
    after = score_rows(best_model(trainer.model, outcome), validation, thumb_sequences, run.log)
    rewards = settings.beta * (after - before)[:, 0]
    liked = np.array([one["label"] for one in validation], bool)
    figures = thumb_figures(rewards[liked], rewards[~liked])
    return Trained(outcome, splits.train.facts, figures)


def kto_arguments(settings: KtoSection) -> dict[str, Any]:
    """Return TRL's arguments of a recipe's ``tune.kto``."""
    return {
        "beta": settings.beta,
        "loss_type": settings.loss_type,
        "desirable_weight": settings.desirable_weight,
        "undesirable_weight": settings.undesirable_weight,
        "precompute_ref_log_probs": True,
        "train_sampling_strategy": "sequential",
    }


def warn_of_weights(liked: int, rows: int, settings: KtoSection, log: Log) -> None:
    """Warn of weights that leave liked and disliked answers unequal (section 4.2, equation 8)."""
    ratio = settings.desirable_weight * liked / (settings.undesirable_weight * (rows - liked))
    if not 0.99 <= ratio <= 1.34:
        wanted = settings.undesirable_weight * (rows - liked) / liked
        log.warn(
            f"{liked:,} liked and {rows - liked:,} disliked answers weigh {ratio:.2f} to 1, and "
            f"KTO's paper takes 1 to 1.33: set tune.kto.desirable_weight to {wanted:.3g} to "
            f"{1.33 * wanted:.3g}, or the other weight instead"
        )


def _order(tokens: PreferenceTokens, tuning: Tuning, seed: int) -> ThumbRows:
    """Return the train rows in the order of training, those of similar length together."""
    section = tuning.section
    seen = seen_rows(tokens, section)
    each = section.batch_size * section.gradient_accumulation
    order = np.fromiter(LengthBatches(tokens.lengths[seen].tolist(), each, seed), np.int64)
    return ThumbRows(tokens.path, seen[order], section.batch_size)


def _with_reference(rows: ThumbRows, tuning: Tuning) -> TokenRows:
    if not len(rows):
        return rows
    own, other = find_reference(tuning, rows, thumb_sequences).T
    return rows.with_columns({"ref_logps": own, "ref_KL_logps": other})
