"""What a tuning changed of the model's grasp of general text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GeneralText:
    """Perplexity on the same general texts before and after a tuning.

    Attributes:
        source: ``embedded``, or the file that the recipe names.
        texts: how many.
        tokens: of them that were scored.
        perplexity_before: of the model as the step began.
        perplexity_after: of the model that was kept.
        loss_change: after minus before, nats per token; above 0 something was forgotten.
        ci95: its 95 % interval over texts.
    """

    source: str
    texts: int
    tokens: int
    perplexity_before: float
    perplexity_after: float
    loss_change: float
    ci95: tuple[float, float] | None = None
