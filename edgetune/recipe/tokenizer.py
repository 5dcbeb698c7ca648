"""What of a recipe decides which of its rows are used, and their tokens."""

from __future__ import annotations

from edgetune.recipe.section import Section


class TokenizerSettings(Section):
    """The tokenizer of the base, the token that ends answers, and what rows are for."""

    path: str
    revision: str | None = None
    end_token: str | None = None
    objective: str = "sft"
