"""The reward that a reward model gives, as ``objective: reward`` trains one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetune.data.rows import Message, Row
from edgetune.train.preference.scorer import load_reward_model
from edgetune.train.rewards import Scope, Score

BATCH_ROWS = 16


def make_model(value: str, scope: Scope) -> Score:
    """Return the scores of the reward model of an earlier step, or in a folder.

    Raises:
        InputError: the folder holds no reward model.
    """
    scorer = load_reward_model(scope.models.get(value, Path(value)), device=scope.device)

    def score(rows: Sequence[Row], answers: Sequence[str]) -> list[float]:
        answered = [
            Row((*row.prompt, Message("assistant", answer or " ")), None, row.where, row.tools)
            for row, answer in zip(rows, answers, strict=True)
        ]
        parts = [answered[at : at + BATCH_ROWS] for at in range(0, len(answered), BATCH_ROWS)]
        return [float(value) for part in parts for value in scorer.score(part)]

    return score
