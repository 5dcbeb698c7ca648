"""Rows of :mod:`edgetune.data.preference_tokens` in batches, as TRL's trainers take them.

B pairs, R rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

Example = dict[str, Any]
#: Ids of a prompt with its answer, and 1 for each that counts.
Scored = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class PairCollator:
    """Puts pairs together: all chosen answers, then all rejected ones, [2B, T], padded behind.

    Attributes:
        pad_id: fills rows up to the longest.
    """

    pad_id: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        rows = [
            (one["prompt_ids"], one[f"{side}_ids"], one[f"{side}_mask"])
            for side in ("chosen", "rejected")
            for one in examples
        ]
        return {**_pad(rows, self.pad_id), **_columns(examples, "ref_")}


@dataclass(frozen=True)
class ThumbCollator:
    """Puts answers with a thumb together, [B, T]; those of other prompts under ``KL_`` names.

    Attributes:
        pad_id: fills rows up to the longest.
    """

    pad_id: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        batch: dict[str, torch.Tensor] = {}
        for prefix in ("", "KL_"):
            if f"{prefix}completion_ids" in examples[0]:
                names = ("prompt_ids", f"{prefix}completion_ids", f"{prefix}completion_mask")
                rows = [tuple(one[name] for name in names) for one in examples]
                padded = _pad(rows, self.pad_id)
                batch |= {prefix + name: values for name, values in padded.items()}
        batch["label"] = torch.tensor([one["label"] for one in examples])
        return batch | _columns(examples, "ref_")


def _pad(
    rows: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int]]], pad_id: int
) -> dict[str, torch.Tensor]:
    """Return prompts with answers [R, T]: their ids, which are real, and which train."""
    longest = max(len(prompt) + len(answer) for prompt, answer, _ in rows)
    ids_RT = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    real_RT, trained_RT = torch.zeros_like(ids_RT), torch.zeros_like(ids_RT)
    for number, (prompt, answer, mask) in enumerate(rows):
        border, end = len(prompt), len(prompt) + len(answer)
        ids_RT[number, :end] = torch.as_tensor([*prompt, *answer])
        real_RT[number, :end] = 1
        trained_RT[number, border:end] = torch.as_tensor(list(mask))
    return {"input_ids": ids_RT, "attention_mask": real_RT, "completion_mask": trained_RT}


def _columns(examples: Sequence[Example], prefix: str) -> dict[str, torch.Tensor]:
    """Return the columns of numbers that begin with ``prefix``, float32 [B]."""
    names = [name for name in examples[0] if name.startswith(prefix)]
    return {name: torch.tensor([one[name] for one in examples]) for name in names}
