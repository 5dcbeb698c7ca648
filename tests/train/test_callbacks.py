"""The best validation: of the lowest loss, or of the highest score and then the lowest loss."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgetune.train.callbacks import KeepBest, MeasureScore, find_best

HISTORY = [
    {"loss": 9.0},
    {"eval_loss": 3.0, "eval_exact_match": 0.1},
    {"eval_loss": 1.0, "eval_exact_match": 0.4},
    {"loss": 8.0},
    {"eval_loss": 2.0, "eval_exact_match": 0.5},
    {"eval_loss": 1.5, "eval_exact_match": 0.5},
]


def test_the_best_is_of_the_loss_or_of_the_score() -> None:
    assert find_best(HISTORY, None) == 1
    assert find_best(HISTORY, "exact_match") == 3


@pytest.mark.parametrize(("score", "kept"), [(None, [0, 1]), ("exact_match", [0, 1, 2, 3])])
def test_what_is_watched_says_what_is_kept_and_when_to_stop(
    tmp_path: Path, score: str | None, kept: list[int]
) -> None:
    saved: list[int] = []
    validations = [row for row in HISTORY if "eval_loss" in row]
    callback, control = KeepBest(tmp_path, 2, score), SimpleNamespace(should_training_stop=False)
    for number in range(len(validations)):
        model = SimpleNamespace(save_pretrained=lambda _, number=number: saved.append(number))
        state: Any = SimpleNamespace(log_history=validations[: number + 1])
        callback.on_evaluate(None, state, control, model)  # type: ignore[arg-type]
    assert saved == kept
    assert control.should_training_stop is (score is None)


def test_a_score_is_put_beside_the_loss_of_its_validation() -> None:
    class Answers:
        name = "exact_match"

        def __call__(self, model: Any) -> float:
            return 0.25

    state: Any = SimpleNamespace(log_history=[{"loss": 1.0}, {"eval_loss": 2.0, "step": 4}])
    MeasureScore(Answers()).on_evaluate(None, state, None, None)  # type: ignore[arg-type]
    assert state.log_history[-1] == {"eval_loss": 2.0, "step": 4, "eval_exact_match": 0.25}
