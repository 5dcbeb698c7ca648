"""What a dataset is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from edgetune.data.dataset.encoding import Encoding
from edgetune.data.encode import Encoder
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection


@dataclass(frozen=True)
class Settings:
    """What a dataset is made of.

    Attributes:
        section: of the recipe.
        seed: of every choice.
        encoding: what rows are encoded with; ``None`` leaves tokens out.
        tokenizer: what counts the tokens of chunks; ``None`` is that of the encoding.
        objective: what rows are for, as :data:`edgetune.data.shapes.SHAPES` calls it.
    """

    section: DataSection
    seed: int
    encoding: Encoding | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    objective: str = "sft"

    def load_tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Return the tokenizer; ``None`` where rows are not encoded."""
        if self.tokenizer is not None:
            return self.tokenizer
        return load_tokenizer(Path(self.encoding.tokenizer)) if self.encoding else None

    def make_encoder(self) -> Encoder | None:
        """Return the encoder, loaded; ``None`` where rows are not encoded."""
        return self.encoding.make_encoder(self.section) if self.encoding else None
