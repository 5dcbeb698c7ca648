"""Group relative policy optimization (Shao et al. 2024, arXiv 2402.03300, section 4.1)."""

from __future__ import annotations

from typing import Any

from trl import GRPOConfig, GRPOTrainer

from edgetune.train.objectives.sampled import SampledMixin, train_sampled
from edgetune.train.tuning_step import Trained, Tuning


class GroupTrainer(SampledMixin, GRPOTrainer):
    """TRL's trainer with our prompts and rewards."""


def train(tuning: Tuning) -> Trained:
    """Train a step's model on groups of its own answers, each compared with its group's mean."""
    settings = tuning.section.grpo

    def configure(**arguments: Any) -> GRPOConfig:
        return GRPOConfig(**arguments, loss_type=settings.loss_type)

    return train_sampled(tuning, settings, GroupTrainer, configure)
