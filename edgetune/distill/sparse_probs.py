"""What is kept of the teacher's distribution at a position: a sample of it, or its largest part.

A sample: tokens drawn with replacement, the unique ids kept with their counts (Anshumann et al.
2025, arXiv 2503.16870, section 3, random sampling knowledge distillation). counts / draws
estimates the distribution without bias. A top-k cut does not, but it is the same at every draw.

P positions, V vocabulary, E entries of all positions, one position after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

PROB_SCALE = 65_535  # a probability of a top-k cut is kept in 16 bits


@dataclass(frozen=True)
class Entries:
    """Kept entries of some positions.

    Attributes:
        lengths: entries of each position, [P].
        ids: tokens, [E]; at a position the most probable first.
        counts: draws of each [E], or its probability in steps of 1 / 65,535.
    """

    lengths: np.ndarray
    ids: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Target:
    """A row's distributions at its trained positions, in order.

    Attributes:
        lengths: entries a position, [P].
        ids: tokens, [E].
        probs: their probabilities, float32 [E].
        tail: what is left for other tokens, float32 [P]; none of a sample.
    """

    lengths: np.ndarray
    ids: np.ndarray
    probs: np.ndarray
    tail: np.ndarray | None


@torch.no_grad()
def draw_sample(probabilities_PV: torch.Tensor, draws: int, generator: torch.Generator) -> Entries:
    """Return ``draws`` tokens of every position, with replacement, as unique ids and counts."""
    if not len(probabilities_PV):
        return _nothing()
    drawn_PN = torch.multinomial(probabilities_PV, draws, replacement=True, generator=generator)
    sorted_PN = drawn_PN.sort(dim=1).values.cpu().numpy()
    first_PN = np.ones_like(sorted_PN, dtype=bool)
    first_PN[:, 1:] = sorted_PN[:, 1:] != sorted_PN[:, :-1]
    at = np.flatnonzero(first_PN.ravel())
    counts = np.diff(np.append(at, first_PN.size))  # a run ends where the next one starts
    owners, ids = at // draws, sorted_PN.ravel()[at]
    order = np.lexsort((ids, -counts, owners))
    return Entries(first_PN.sum(axis=1), ids[order], counts[order])


@torch.no_grad()
def cut_top_k(probabilities_PV: torch.Tensor, k: int) -> Entries:
    """Return the ``k`` most probable tokens of every position and their probabilities."""
    if not len(probabilities_PV):
        return _nothing()
    k = min(k, probabilities_PV.shape[1])
    top = probabilities_PV.topk(k, dim=1)
    counts = (top.values.cpu().numpy() * PROB_SCALE).round().astype(np.int64)
    # Rounded up all together they may be more than everything.
    counts[:, 0] -= np.maximum(counts.sum(axis=1) - PROB_SCALE, 0)
    lengths = np.full(len(counts), k)
    return Entries(lengths, top.indices.cpu().numpy().ravel(), counts.ravel())


def _nothing() -> Entries:
    return Entries(*(np.zeros(0, np.int64) for _ in range(3)))
