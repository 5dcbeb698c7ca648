"""Settings of supervised tuning, and of what every tuning is watched for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgetune.recipe.section import Count, PathText, Positive, Section


class SupervisedSettings(Section):
    """Which tokens have a loss, what is added to them, and which weights are kept."""

    train_on: Literal["completions", "all", "last"] = Field(
        "completions",
        description="tokens with a loss: all answers; all tokens, prompts too; the last answer. "
        "A turn with weight: 0 is left out of the first and the last",
    )
    neftune_alpha: Positive | None = Field(
        None, description="noise on embeddings while training (NEFTune: 5 to 15); absent: none"
    )
    best_by: Literal["loss", "exact_match"] = Field(
        "loss",
        description="what patience watches on validation rows, and whose best weights are kept",
    )
    best_rows: Count = Field(64, description="validation rows answered by best_by: exact_match")
    general: Literal["embedded", "off"] | PathText = Field(
        "embedded",
        description="general text whose perplexity is measured before and after, for what the "
        "tuning forgets: a file of rows, the 32 paragraphs of the package, or off",
    )
