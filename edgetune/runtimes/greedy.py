"""Greedy decoding in lockstep, the same loop over every runtime."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol


class Decoder(Protocol):
    """Some sequences being continued together.

    Attributes:
        tokens: the greedy next token of each sequence that is still alive.
    """

    tokens: list[int]

    def advance(self, keep: list[int]) -> None:
        """Append their tokens to the sequences at ``keep``, drop the others, and predict again."""


Prompts = Sequence[Sequence[int]]
Start = Callable[[Prompts], Decoder]


def generate(
    start: Start,
    prompts: Prompts,
    groups: list[list[int]],
    max_new_tokens: int,
    stop_ids: Sequence[int],
) -> list[list[int]]:
    """Return each prompt's continuation; the prompts of a group are decoded together."""
    answers: list[list[int]] = [[] for _ in prompts]
    for group in groups:
        decoder = start([prompts[row] for row in group])
        continued = _continue(decoder, len(group), max_new_tokens, frozenset(stop_ids))
        for row, answer in zip(group, continued, strict=True):
            answers[row] = answer
    return answers


def _continue(
    decoder: Decoder, count: int, max_new_tokens: int, stop_ids: frozenset[int]
) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in range(count)]
    alive = list(range(count))
    for left in range(max_new_tokens, 0, -1):
        keep = [slot for slot, token in enumerate(decoder.tokens) if token not in stop_ids]
        for slot in keep:
            answers[alive[slot]].append(decoder.tokens[slot])
        alive = [alive[slot] for slot in keep]
        if not alive or left == 1:
            break
        decoder.advance(keep)
    return answers


def stream(start: Start, prompt: Sequence[int], max_new_tokens: int) -> Iterator[int]:
    """Yield ``max_new_tokens`` tokens of one prompt, each as soon as it is known."""
    decoder = start([prompt])
    yield decoder.tokens[0]
    for _ in range(max_new_tokens - 1):
        decoder.advance([0])
        yield decoder.tokens[0]


def equal_length_groups(prompts: Prompts, limit: int) -> list[list[int]]:
    """Return row numbers in groups of one prompt length: nothing to pad, so nothing to mask."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_length[len(prompt)].append(row)
    return [
        rows[first : first + limit]
        for _, rows in sorted(by_length.items())
        for first in range(0, len(rows), limit)
    ]


def similar_length_groups(prompts: Prompts, limit: int) -> list[list[int]]:
    """Return row numbers in groups of near lengths, for a runtime that takes unequal ones."""
    rows = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    return [rows[first : first + limit] for first in range(0, len(rows), limit)]
