"""Every objective on preferences learns them, and goes on after a kill bit for bit."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from edgetune.train import loop
from edgetune.train.tuning_step import Trained
from tests.train.preference.preferences import (
    Trial,
    adapter_of,
    write_pair_rows,
    write_thumb_rows,
)

OBJECTIVES = ("dpo", "kto", "orpo", "reward")


def trial(objective: str, model: Path, folder: Path) -> Trial:
    write = write_thumb_rows if objective == "kto" else write_pair_rows
    return Trial(model, write(folder / "rows.jsonl"), objective)


def run(trial: Trial, out: Path, **settings: Any) -> tuple[Trained, dict[str, torch.Tensor]]:
    tuning = trial.tuning(out, **settings)
    trained = import_module(f"edgetune.train.objectives.{trial.objective}").train(tuning)
    return trained, adapter_of(tuning)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_killed_and_resumed_equals_unbroken(
    objective: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"max_steps": 7, "save_every": 3, "eval_every": 4, "dropout": 0.1}
    over = trial(objective, tiny_model, tmp_path)
    whole, adapter = run(over, tmp_path / "whole", **settings)
    original = loop.StopWhenAsked

    class StopAndKill(original):  # type: ignore[misc, valid-type]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 5:
                raise ConnectionAbortedError("killed")

    monkeypatch.setattr(loop, "StopWhenAsked", StopAndKill)
    with pytest.raises(ConnectionAbortedError):
        run(over, tmp_path / "broken", **settings)
    monkeypatch.setattr(loop, "StopWhenAsked", original)
    resumed, other = run(over, tmp_path / "broken", **settings)
    assert resumed.outcome.resumed_from == 3
    assert adapter.keys() == other.keys()
    assert all(torch.equal(weight, other[name]) for name, weight in adapter.items())
    assert resumed.figures == whole.figures


@pytest.mark.parametrize(
    ("objective", "figure"),
    [
        ("dpo", "reward_accuracy"), ("kto", "reward_accuracy"),
        ("orpo", "preference_accuracy"), ("reward", "preference_accuracy"),
    ],
)  # fmt: skip
def test_what_is_preferred_is_learnt_beyond_the_noise(
    objective: str, figure: str, tiny_model: Path, tmp_path: Path
) -> None:
    trained, adapter = run(trial(objective, tiny_model, tmp_path), tmp_path / "out")
    before = trained.figures.get(f"{figure}_before_high", 0.5)
    assert trained.figures[f"{figure}_low"] > before
    assert trained.figures["reward_margin_low"] > 0
    assert set(adapter) == {name for name in adapter if "default" in name}  # no adapter `ref`
    assert trained.tokens["rows"] == 48


def test_the_best_weights_are_what_is_measured(tiny_model: Path, tmp_path: Path) -> None:
    settings = {"patience": 1, "eval_every": 2, "max_steps": 40, "learning_rate": 0.3}
    trained, adapter = run(trial("dpo", tiny_model, tmp_path), tmp_path / "out", **settings)
    assert trained.outcome.best is not None and trained.outcome.steps < 40
    from peft import load_peft_weights

    best = load_peft_weights(str(trained.outcome.best), device="cpu")
    for name, weight in best.items():
        torch.testing.assert_close(weight, adapter[name.replace(".weight", ".default.weight")])


def test_whole_models_are_trained_too(tiny_model: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from edgetune.models.load import load_base

    for objective in ("dpo", "reward"):
        over = trial(objective, tiny_model, tmp_path)
        tuning = over.tuning(tmp_path / objective, method="full", learning_rate=1e-3)
        tuning = replace(tuning, model=load_base(tiny_model, False, "float32", "cpu"))
        trained = import_module(f"edgetune.train.objectives.{objective}").train(tuning)
        assert trained.figures["reward_margin_low"] > 0
