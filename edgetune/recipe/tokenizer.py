"""What of a recipe decides the tokens of its rows."""

from __future__ import annotations

from edgetune.recipe.section import Section


class TokenizerSettings(Section):
    """The tokenizer of the base, and the token that ends answers."""

    path: str
    revision: str | None = None
    end_token: str | None = None
