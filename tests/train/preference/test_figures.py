"""Figures of preferences: what chance gives, what a perfect order gives, and honest intervals."""

from __future__ import annotations

import numpy as np
import pytest

from edgetune.train.preference.figures import pair_figures, score_figures, thumb_figures


def test_a_training_that_changes_nothing_has_no_margin() -> None:
    same = np.array([[-1.0, -2.0], [-3.0, -2.0]], np.float32)
    found = pair_figures(same, same, beta=0.1)
    assert found["preference_accuracy"] == found["preference_accuracy_before"] == 0.5
    assert found["reward_margin"] == 0 and found["reward_accuracy"] == 0


def test_margins_are_of_what_answers_gained() -> None:
    before = np.zeros((20, 2), np.float32)
    after = np.tile(np.array([[1.0, -1.0]], np.float32), (20, 1))
    found = pair_figures(before, after, beta=0.5)
    assert found["reward_margin"] == found["reward_margin_low"] == pytest.approx(1.0)
    assert found["reward_accuracy"] == 1 and 0.8 < found["reward_accuracy_low"] < 1
    scores = score_figures(before, after)
    assert scores["preference_accuracy_before"] == 0 and scores["reward_margin"] == 2


def test_thumbs_are_told_apart_by_pairs_of_answers() -> None:
    found = thumb_figures(np.array([3.0, 1.0]), np.array([2.0, 1.0, 0.0]))
    # 3 is above all three; 1 above one and equal to one.
    assert found["reward_accuracy"] == pytest.approx((3 + 1.5) / 6)
    assert found["reward_margin"] == pytest.approx(1.0)
    assert found["reward_accuracy_low"] < 0.5 < found["reward_accuracy_high"]


def test_thumbs_of_one_kind_have_no_accuracy() -> None:
    assert thumb_figures(np.array([1.0]), np.empty(0)) == {
        "validation_liked": 1.0, "validation_disliked": 0.0,
    }  # fmt: skip
