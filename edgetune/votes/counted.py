"""Votes as arrays, as the estimates take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgetune.votes.clusters import cluster_variance

#: What a vote gives to the answer shown first; both bad says nothing of which is better.
CHOICES = {"first": 1.0, "second": 0.0, "tie": 0.5, "bad": 0.5}


@dataclass(frozen=True)
class Counted:
    """N votes; every array has shape (N,).

    Attributes:
        models: names.
        items: number of the comparison on the page.
        rows: number of the row whose answers were compared.
        voters: number of the voter.
        first: number of the model whose answer was shown first.
        second: that of the other.
        choices: keys of :data:`CHOICES`.
    """

    models: Sequence[str]
    items: np.ndarray
    rows: np.ndarray
    voters: np.ndarray
    first: np.ndarray
    second: np.ndarray
    choices: np.ndarray

    @property
    def won(self) -> np.ndarray:
        """What each vote gives to the first answer: 1, 0, or a half for ties and both bad."""
        return np.asarray([CHOICES[one] for one in self.choices.tolist()], np.float64)

    @property
    def row_votes(self) -> float:
        """As how many independent votes those on one row and pair count (Kish's design effect).

        Between 1, votes on one row are as different as those on several, and all of them.
        """
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        cells_3N = np.stack([self.rows, low, high])
        most = float(len(self) / np.unique(cells_3N, axis=1).shape[1])
        won_N = np.where(self.first == low, self.won, 1 - self.won)
        _, pairs_N = np.unique(low * len(self.models) + high, return_inverse=True)
        means = np.bincount(pairs_N, won_N) / np.bincount(pairs_N)
        residual_N = won_N - means[pairs_N]
        alone = float((residual_N**2).sum())
        if alone <= 0:
            return most
        together, _ = cluster_variance(residual_N[:, None], self.rows, self.voters)
        return float(np.clip(together[0] / alone, 1.0, most))

    def __len__(self) -> int:
        return len(self.choices)

    def where(self, chosen: np.ndarray) -> Counted:
        """Return those votes that a mask or an index chooses."""
        return Counted(
            self.models, self.items[chosen], self.rows[chosen], self.voters[chosen],
            self.first[chosen], self.second[chosen], self.choices[chosen],
        )  # fmt: skip

    def between(self, one: int, other: int) -> np.ndarray:
        """Return the mask of the votes between two models."""
        pair = ((self.first == one) & (self.second == other)) | (
            (self.first == other) & (self.second == one)
        )
        return np.asarray(pair)

    def pairs(self) -> list[tuple[int, int]]:
        """Return the pairs of models that were compared, each with the lower number first."""
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        return sorted(set(zip(low.tolist(), high.tolist(), strict=True)))
