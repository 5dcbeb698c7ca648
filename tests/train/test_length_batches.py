"""The order of rows: each once, similar lengths together, the same for the same seed and epoch."""

from __future__ import annotations

import random

from edgetune.train.length_batches import LengthBatches


def test_every_row_once_and_batches_of_similar_length() -> None:
    draw = random.Random(0)
    lengths = [draw.randint(5, 60) for _ in range(1003)]
    order = list(LengthBatches(lengths, 8, seed=1))
    assert sorted(order) == list(range(1003))
    padded = sum(8 * max(lengths[i] for i in order[at : at + 8]) for at in range(0, 1000, 8))
    assert padded < 1.1 * sum(lengths)
    means = [sum(lengths[i] for i in order[at : at + 8]) / 8 for at in range(0, 1000, 8)]
    assert means != sorted(means) and means != sorted(means, reverse=True)


def test_the_order_is_the_seed_s_and_the_epoch_s() -> None:
    lengths = [3, 1, 4, 1, 5, 9, 2, 6] * 20
    sampler = LengthBatches(lengths, 4, seed=1)
    first = list(sampler)
    assert first == list(sampler) == list(LengthBatches(lengths, 4, seed=1))
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(LengthBatches(lengths, 4, seed=2)) != first
