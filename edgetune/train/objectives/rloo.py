"""REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, arXiv 2402.14740, section 3)."""

from __future__ import annotations

from trl import RLOOConfig, RLOOTrainer

from edgetune.train.objectives.sampled import SampledMixin, train_sampled
from edgetune.train.tuning_step import Trained, Tuning


class LeaveOneOutTrainer(SampledMixin, RLOOTrainer):
    """TRL's trainer with our prompts and rewards."""


def train(tuning: Tuning) -> Trained:
    """Train a step's model on its own answers, each compared with the mean of the others."""
    return train_sampled(tuning, tuning.section.rloo, LeaveOneOutTrainer, RLOOConfig)
