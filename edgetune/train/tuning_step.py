"""One step of tuning: what an objective is given, and what it gives back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edgetune.artifact import hash_source
from edgetune.data.dataset.splits import Splits
from edgetune.data.dataset.tables import RowTable, lengths_of
from edgetune.data.encode import Encoder
from edgetune.data.encode_rows import Prepared
from edgetune.errors import InputError
from edgetune.models.ref import ModelRef
from edgetune.recipe import DataSection, TuneSection
from edgetune.train.inputs import TrainingRun
from edgetune.train.loop import Outcome


@dataclass(frozen=True)
class Tuning:
    """A step of tuning before its training.

    Attributes:
        model: whole or with an adapter; what is trained of it is in float32.
        tokenizer: of the base.
        encoder: makes tokens of rows.
        rows: that the recipe names for the step.
        section: settings of the step.
        data: settings of its rows.
        run: its seed, and where it writes.
        start: what the model is as the step begins, on disk.
        train: other train rows than those of ``rows``.
        reward_models: folders of earlier steps that gave one, by the step's name.
    """

    model: Any
    tokenizer: Any
    encoder: Encoder
    rows: Splits
    section: TuneSection
    data: DataSection
    run: TrainingRun
    start: ModelRef
    train: RowTable | None = None
    reward_models: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def model_key(self) -> str:
        """Hash of what the model is as the step begins, by what lies on disk."""
        start = self.start
        parts = [hash_source(start.base), str(start.nf4), start.nf4_dtype]
        parts += [hash_source(one) for one in (start.adapter, start.gguf) if one]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def encode(self, split: str) -> Prepared:
        """Return the tokens of a split's rows.

        Raises:
            InputError: rows longer than the model's context, or none that can be trained on.
        """
        chosen = self.train if split == "train" else None
        found = self.rows.encode(split, self.encoder, self.run.log, self.data.on_bad_row, chosen)
        self.check_context(lengths_of(found.encoded))
        return found

    def check_context(self, lengths: Sequence[int]) -> None:
        """Refuse rows longer than the model's context.

        Raises:
            InputError: names ``data.max_length`` and what it may be.
        """
        longest = self.model.config.get_text_config().max_position_embeddings
        if max(lengths, default=0) > longest:
            raise InputError(
                f"rows are longer than the {longest} positions of the model",
                where="data.max_length",
                hint=f"set it to at most {longest}",
            )


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        outcome: steps and losses.
        tokens: counts of the train rows.
        figures: what the objective measured of its own, by name.
    """

    outcome: Outcome
    tokens: Mapping[str, Any]
    figures: Mapping[str, float] = field(default_factory=dict)
