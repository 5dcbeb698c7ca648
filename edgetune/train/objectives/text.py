"""Continued pre-training: cross-entropy of every token of plain texts.

Rows of this objective are texts, so that the loss is on all their tokens; the training is that of
:mod:`edgetune.train.objectives.sft`.
"""

from __future__ import annotations

from edgetune.train.objectives import sft
from edgetune.train.tuning_step import Trained, Tuning


def train(tuning: Tuning) -> Trained:
    """Train a step's model on every token of its texts."""
    return sft.train(tuning)
