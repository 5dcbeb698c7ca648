"""Random decoding: the next token drawn from the model's distribution, the same for a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LIKELIEST = 1024  # tokens that top_p chooses among: sorting a large vocabulary takes 10 ms a step


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: divides the logits; above 0.
        seeds: of each prompt, so that what is drawn does not depend on the other prompts.
        top_p: draw from the likeliest tokens that together have this probability (nucleus
            sampling: Holtzman et al. 2020, arXiv 1904.09751, section 3.1).
    """

    temperature: float
    seeds: tuple[int, ...]
    top_p: float = 1.0


class Picker:
    """Draws the next token of each of some sequences, every sequence by its own random stream."""

    def __init__(self, sampling: Sampling, rows: Sequence[int]) -> None:
        self._sampling = sampling
        self._streams = [np.random.Generator(np.random.Philox(sampling.seeds[n])) for n in rows]

    def keep(self, slots: Sequence[int]) -> None:
        """Go on with the sequences at ``slots`` alone."""
        self._streams = [self._streams[slot] for slot in slots]

    def pick(self, scores_BV: np.ndarray, first: int = 0) -> list[int]:
        """Return a token for each row of logits: those of the sequences from ``first`` on."""
        streams = self._streams[first : first + len(scores_BV)]
        draws_B1 = np.array([[stream.random()] for stream in streams])
        ids_BK, probs_BK = None, _softmax(scores_BV / self._sampling.temperature)
        if self._sampling.top_p < 1:
            count = min(LIKELIEST, probs_BK.shape[1])
            found_BK = np.argpartition(-probs_BK, count - 1, axis=1)[:, :count]
            some_BK = np.take_along_axis(probs_BK, found_BK, axis=1)
            order_BK = np.argsort(-some_BK, axis=1, kind="stable")
            ids_BK = np.take_along_axis(found_BK, order_BK, axis=1)
            probs_BK = np.take_along_axis(some_BK, order_BK, axis=1)
            before_BK = probs_BK.cumsum(axis=1) - probs_BK
            probs_BK = np.where(before_BK < self._sampling.top_p, probs_BK, 0.0)
        sums_BK = probs_BK.cumsum(axis=1)
        places_B = (sums_BK <= draws_B1 * sums_BK[:, -1:]).sum(axis=1)
        places_B = np.minimum(places_B, probs_BK.shape[1] - 1)  # a draw rounded up to 1
        if ids_BK is not None:
            places_B = ids_BK[np.arange(len(places_B)), places_B]
        return [int(place) for place in places_B]


def _softmax(scores_BV: np.ndarray) -> np.ndarray:
    shifted_BV = scores_BV.astype(np.float64)
    shifted_BV -= shifted_BV.max(axis=1, keepdims=True)
    probs_BV: np.ndarray = np.exp(shifted_BV)
    probs_BV /= probs_BV.sum(axis=1, keepdims=True)
    return probs_BV
