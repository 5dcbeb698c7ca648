"""What prepare made of the sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PrepareFacts:
    """The dataset and what was left out of it.

    Attributes:
        data: counts of all splits, as :class:`~edgetune.data.dataset.splits.Splits` has them.
        tokens: counts of each split's tokens.
        left_out: rows that were left out or changed, by step and reason.
    """

    data: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
