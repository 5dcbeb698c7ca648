"""Training on preferences is TRL's own training: the same loss at every step, to 1e-5."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from edgetune.data.dataset.tables import RowTable
from edgetune.data.preference_tokens import write_pairs, write_thumbs
from edgetune.train.arguments import trainer_arguments
from edgetune.train.length_batches import LengthBatches
from edgetune.train.precision import keep_trainable_float32
from edgetune.train.tuning_step import Tuning
from tests.train.preference.preferences import (
    QUIET,
    Trial,
    losses_of,
    write_pair_rows,
    write_thumb_rows,
)

STEPS, BATCH = 20, 4
ONE_BY_ONE = {"max_steps": STEPS, "batch_size": BATCH, "eval_every": 1, "eval_rows": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rows")
    return {
        "pairs": write_pair_rows(folder / "pairs.jsonl", STEPS * BATCH),
        "thumbs": write_thumb_rows(folder / "thumbs.jsonl", STEPS * BATCH),
    }


def in_order(tuning: Tuning, tmp_path: Path) -> list[dict[str, Any]]:
    """Return the train rows as texts, in the order that our trainers take them."""
    rows, encoder = tuning.rows.train, tuning.encoder
    write = write_thumbs if rows[0].label is not None else write_pairs
    tokens = write(encoder, rows, tmp_path / "order", QUIET)
    order = LengthBatches(tokens.lengths.tolist(), BATCH, 0)
    return [as_text(rows, number, tuning) for number in order]


def as_text(rows: RowTable, number: int, tuning: Tuning) -> dict[str, Any]:
    row = rows[number]
    prompt = tuning.encoder.prompt_text(row)
    if row.label is not None:
        return {"prompt": prompt, "completion": row.answer, "label": row.label}
    return {"prompt": prompt, "chosen": row.answer, "rejected": row.rejected[0].content}


def trls_losses(
    trainer: type, config: type, tuning: Tuning, model: Any, folder: Path, **settings: Any
) -> list[float]:
    """Return the losses of TRL's own trainer over texts that it tokenizes itself."""
    arguments = trainer_arguments(tuning.section, STEPS, tuning.run, model, has_validation=False)
    arguments |= {"output_dir": str(folder / "trl"), "save_strategy": "no"}
    done = trainer(
        model=model,
        args=config(**arguments, max_length=128, train_sampling_strategy="sequential", **settings),
        train_dataset=Dataset.from_list(in_order(tuning, folder)),
        processing_class=tuning.tokenizer,
    )
    done.train()
    return [row["loss"] for row in done.state.log_history if "loss" in row]


def check(ours: list[float], theirs: list[float]) -> None:
    assert len(ours) == len(theirs) == STEPS
    assert max(abs(one - other) for one, other in zip(ours, theirs, strict=True)) < 1e-5
    assert ours[-1] < ours[0]


LOSSES: list[dict[str, Any]] = [
    {}, {"loss_type": "ipo"}, {"loss_type": "robust", "label_smoothing": 0.1},
    {"loss_type": "apo_zero"}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: str(loss.get("loss_type", "sigmoid")))
def test_dpo_equals_trls(
    loss: dict[str, Any], files: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    from trl import DPOConfig, DPOTrainer

    trial = Trial(tiny_model, files["pairs"], "dpo", nf4=False)
    tuning = trial.tuning(tmp_path, dpo=loss, **ONE_BY_ONE)
    import_module("edgetune.train.objectives.dpo").train(tuning)
    other = trial.tuning(tmp_path / "other", dpo=loss, **ONE_BY_ONE)
    theirs = trls_losses(DPOTrainer, DPOConfig, other, other.model, tmp_path, **loss)
    check(losses_of(tmp_path), theirs)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_kto_equals_trls(
    loss: str, files: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    from trl import KTOConfig, KTOTrainer

    settings = {"loss_type": loss, "undesirable_weight": 1.2}
    trial = Trial(tiny_model, files["thumbs"], "kto", nf4=False)
    tuning = trial.tuning(tmp_path, kto=settings, **ONE_BY_ONE)
    import_module("edgetune.train.objectives.kto").train(tuning)
    other = trial.tuning(tmp_path / "other", kto=settings, **ONE_BY_ONE)
    check(
        losses_of(tmp_path),
        trls_losses(KTOTrainer, KTOConfig, other, other.model, tmp_path, **settings),
    )


def test_orpo_equals_trls(files: dict[str, Path], tiny_model: Path, tmp_path: Path) -> None:
    trial = Trial(tiny_model, files["pairs"], "orpo", nf4=False)
    ours = import_module("edgetune.train.objectives.orpo")
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    ours.train(trial.tuning(tmp_path, **ONE_BY_ONE))
    other = trial.tuning(tmp_path / "other", **ONE_BY_ONE)
    check(losses_of(tmp_path), trls_losses(ORPOTrainer, ORPOConfig, other, other.model, tmp_path))


def test_a_reward_model_equals_trls(
    files: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    from edgetune.models.reward_head import add_reward_head

    trial = Trial(tiny_model, files["pairs"], "reward", nf4=False)
    tuning = trial.tuning(tmp_path, **ONE_BY_ONE)
    import_module("edgetune.train.objectives.reward").train(tuning)
    other = trial.tuning(tmp_path / "other", **ONE_BY_ONE)
    add_reward_head(other.model, 0)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    targets = sorted(other.model.peft_config["default"].target_modules)
    config = LoraConfig(
        r=4, lora_alpha=32, target_modules=targets, task_type="SEQ_CLS", modules_to_save=["score"]
    )
    model = get_peft_model(base, config)
    ours = dict(other.model.named_parameters())
    with torch.no_grad():  # its names are the same: so is the file that either saves
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(ours[name])
    keep_trainable_float32(model)
    check(losses_of(tmp_path), trls_losses(RewardTrainer, RewardConfig, other, model, tmp_path))
