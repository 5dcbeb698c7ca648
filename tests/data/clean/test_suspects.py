"""Suspicious labels: exchanged ones are found, and right ones are not listed."""

from __future__ import annotations

import random

import numpy as np
import pytest

from edgetune.data.clean import find_suspects, suspects

TOPICS = (
    ["weather", "rain", "cloud", "storm", "sunny", "forecast", "wind", "snow"],
    ["alarm", "wake", "clock", "morning", "timer", "snooze", "ring", "hour"],
    ["music", "song", "album", "play", "artist", "volume", "track", "radio"],
)


@pytest.fixture(autouse=True)
def few_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "COLUMNS", 256)


def make_rows(count: int) -> tuple[list[str], np.ndarray]:
    chance = random.Random(0)
    labels = [number % 3 for number in range(count)]
    return [" ".join(chance.choices(TOPICS[label], k=6)) for label in labels], np.array(labels)


def test_exchanged_labels_are_found_with_the_right_ones() -> None:
    texts, labels = make_rows(300)
    wrong = labels.copy()
    wrong[[10, 100, 200]] = (labels[[10, 100, 200]] + 1) % 3
    found = find_suspects(texts, wrong)
    assert set(found.rows.tolist()) == {10, 100, 200}
    assert (found.predicted == labels[found.rows]).all() and (found.margins > 0).all()
    assert found.looked_at == 300 and found.agreement == pytest.approx(0.99)


def test_rows_without_a_label_and_rare_labels_are_left_out() -> None:
    texts, labels = make_rows(60)
    labels[:5], labels[5:10] = -1, 7
    found = find_suspects(texts, labels)
    assert found.looked_at == 50 and not len(found.rows)


def test_one_label_alone_is_never_suspicious() -> None:
    texts, _ = make_rows(30)
    assert len(find_suspects(texts, np.zeros(30, dtype=np.int64)).rows) == 0
