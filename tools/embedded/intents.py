"""What an intent of the device-command rows is: its answer keys and its paraphrases.

A template that starts with "~" is no imperative, so "can you" is never put before it. The test
templates occur in no training or validation row. Their nouns and verbs are ones the training
templates use for the same intent: what is new is how they are put together.
"""

from __future__ import annotations

from typing import NamedTuple


class Intent(NamedTuple):
    """One kind of command: answer keys in their fixed order, weight, and templates."""

    keys: tuple[str, ...]
    weight: float
    train: tuple[str, ...]
    test: tuple[str, ...]


def make_intent(keys: str, weight: float, train: str, test: str) -> Intent:
    """An intent from its keys in one line and its templates one a line."""

    def split_lines(text: str) -> tuple[str, ...]:
        return tuple(line.strip() for line in text.strip().splitlines())

    return Intent(tuple(keys.split()), weight, split_lines(train), split_lines(test))
