"""What rows are encoded with, as plain values, and the hash that tells one encoding from others."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgetune.data.build_encoder import make_encoder
from edgetune.data.encode import Encoder
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection


@dataclass(frozen=True)
class Encoding:
    """What decides the tokens of a recipe's rows.

    Attributes:
        tokenizer: the model's folder.
        end_token: ends answers; ``None`` is the template's.
        clock: the time that a template prints which prints one.
    """

    tokenizer: str
    end_token: str | None
    clock: str

    def make_encoder(self, section: DataSection) -> Encoder:
        """Load the tokenizer."""
        tokenizer = load_tokenizer(Path(self.tokenizer))
        return make_encoder(tokenizer, section, self.end_token, self.clock)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def fingerprint(encoder: Encoder) -> str:
    """Hash what decides the tokens that an encoder makes of a row."""
    parts = (encoder.tokenizer_hash, encoder.template_hash, encoder.max_length)
    return hashlib.sha256(repr((*parts, encoder.embedding_rows)).encode()).hexdigest()[:32]
