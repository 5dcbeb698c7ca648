"""A reward model as training asks it: scores of prompts with their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.artifact import load_artifact
from edgetune.data.contract import load_encoder
from edgetune.data.encode import Encoder
from edgetune.data.rows import Row
from edgetune.errors import InputError
from edgetune.models.ref import ModelRef
from edgetune.models.reward_head import load_reward, score_sequences


@dataclass(frozen=True)
class Scorer:
    """Scores answers as the reward model was trained to.

    Attributes:
        model: of :func:`edgetune.models.reward_head.load_reward`.
        encoder: of the reward model's own tokenizer and template.
    """

    model: Any
    encoder: Encoder

    def score(self, rows: Sequence[Row]) -> np.ndarray:
        """Return the score of each row's last answer, higher where it is better, float32 [rows].

        Raises:
            InputError: the template refuses a row.
        """
        sequences = []
        for found in self.encoder.encode_many(rows):
            if isinstance(found, InputError):
                raise found
            sequences.append(list(found.ids))
        return score_sequences(self.model, sequences)


def load_reward_model(folder: Path, dtype: str = "float32", device: str = "cpu") -> Scorer:
    """Load the reward model that a step of tuning with ``objective: reward`` left.

    Args:
        folder: the step's artifact.
        dtype: of weights.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: no artifact, or one of another objective.
    """
    artifact = load_artifact(folder)
    if artifact.facts.get("objective") != "reward":
        raise InputError(
            "this is no reward model", where=str(folder),
            hint="name the folder of a step of tuning with objective: reward",
        )  # fmt: skip
    ref = ModelRef.from_json(artifact.facts["model"], folder)
    model = load_reward(ref, dtype, device)
    longest = int(model.config.get_text_config().max_position_embeddings)
    return Scorer(model, load_encoder(artifact.contract_folder, longest))
