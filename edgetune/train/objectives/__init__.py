"""OBJECTIVES: what a step of tuning minimises, one row each.

A new objective is one file here with ``train(tuning)`` and one row: the recipe's choices, which
rows are read for it, which keys of ``tune`` are its own, and what its curve shows come from the
row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the recipe's choices come from here, and a recipe is read without torch
    from edgetune.train.tuning_step import Trained, Tuning

LANGUAGE_MODEL, REWARD_MODEL = "language model", "reward model"


@dataclass(frozen=True)
class Passes:
    """Sequences of a row that a step reads.

    Attributes:
        trained: with gradients.
        forward: without, in the same optimizer step.
        before: once, by the model as the step begins.
    """

    trained: int = 1
    forward: int = 0
    before: int = 0


@dataclass(frozen=True)
class Objective:
    """One way to tune.

    Attributes:
        summary: what it does, for help and reference.
        module: the module of this package whose ``train(tuning)`` trains a step's model.
        rows: what it is called in :data:`edgetune.data.shapes.SHAPES`, which knows the shapes of
            rows that it can be trained on.
        trainer: TRL's class that computes its loss.
        reads: those keys of ``tune`` that this objective reads and some others do not.
        logged: figures of the trainer's log that are kept beside the losses.
        gives: what the trained model is.
        passes: what a row takes, for the plan.
    """

    summary: str
    module: str
    rows: str
    trainer: str
    reads: tuple[str, ...] = ()
    logged: tuple[str, ...] = ()
    gives: str = LANGUAGE_MODEL
    passes: Passes = Passes()

    def train(self, tuning: Tuning) -> Trained:
        """Train the model of a step."""
        module = import_module(f"{__name__}.{self.module}")  # trainers take 190 MB: on use only
        train: Callable[[Tuning], Trained] = module.train
        return train(tuning)


_PACKED = ("packing", "pack_length")
_PREFERENCE = (
    "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected", "logps/chosen",
    "logps/rejected",
)  # fmt: skip
_REWARDED = ("reward", "reward_std", "entropy", "kl", "completions/mean_length")

OBJECTIVES: dict[str, Objective] = {
    "sft": Objective(
        "supervised: the answers of rows",
        module="sft",
        rows="sft",
        trainer="trl.SFTTrainer",
        reads=(*_PACKED, "train_on", "neftune_alpha", "best_by"),
    ),
    "text": Objective(
        "self-supervised: every token of plain texts (continued pre-training)",
        module="text",
        rows="text",
        trainer="trl.SFTTrainer",
        reads=_PACKED,
    ),
    "dpo": Objective(
        "pairs: a chosen answer over a rejected one (and IPO, robust, APO … by tune.dpo.loss_type)",
        module="dpo",
        rows="dpo",
        trainer="trl.DPOTrainer",
        reads=("dpo",),
        logged=_PREFERENCE,
        passes=Passes(trained=2, before=2),
    ),
    "orpo": Objective(
        "pairs: supervised tuning and preference in one loss, without a reference",
        module="orpo",
        rows="dpo",
        trainer="trl.experimental.orpo.ORPOTrainer",
        reads=("orpo",),
        logged=(*_PREFERENCE, "nll_loss", "log_odds_chosen"),
        passes=Passes(trained=2),
    ),
    "kto": Objective(
        "answers with a thumb up or down",
        module="kto",
        rows="kto",
        trainer="trl.KTOTrainer",
        reads=("kto",),
        logged=("kl", *_PREFERENCE[1:]),
        passes=Passes(forward=1, before=2),
    ),
    "reward": Objective(
        "pairs: a model that scores answers, for grpo and rloo",
        module="reward",
        rows="reward",
        trainer="trl.RewardTrainer",
        reads=("reward",),
        logged=("accuracy", "margin", "mean_reward"),
        gives=REWARD_MODEL,
        passes=Passes(trained=2),
    ),
    "grpo": Objective(
        "reinforcement: sampled answers, rewarded against the mean of their group",
        module="grpo",
        rows="grpo",
        trainer="trl.GRPOTrainer",
        reads=("grpo",),
        logged=_REWARDED,
    ),
    "rloo": Objective(
        "reinforcement: sampled answers, rewarded against the mean of the others",
        module="rloo",
        rows="grpo",
        trainer="trl.RLOOTrainer",
        reads=("rloo",),
        logged=_REWARDED,
    ),
}
