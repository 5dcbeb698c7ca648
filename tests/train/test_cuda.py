"""Tuning on a GPU: the CPU's losses, packed rows kept apart, a resumed run like an unbroken one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgetune.log import Log
from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base, load_tokenizer
from edgetune.recipe import TuneSection
from edgetune.train import loop, sft
from edgetune.train.inputs import TrainingData, TrainingRun
from tests.train.test_resume import some_rows

pytestmark = pytest.mark.gpu
QUIET = Log(quiet=True)


def tune(model: Path, out: Path, device: str, dtype: str = "float32", **knobs: Any) -> Any:
    """Tune over NF4; return what ``sft.tune`` tells, the losses, and the adapter."""
    section = TuneSection(
        **{"rank": 4, "max_steps": 8, "batch_size": 4, "save_every": 3, "eval_every": 4,
           "learning_rate": 1e-3, "packing": False, **knobs},
    )  # fmt: skip
    tuned = add_adapter(load_base(model, True, dtype, device), section, seed=0)
    out.mkdir(exist_ok=True)
    rows = some_rows(40)
    data, run = TrainingData(rows, rows[:4]), TrainingRun("teacher", 0, out, QUIET)
    told = sft.tune(tuned, load_tokenizer(model), data, section, 64, run)
    curve = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    parameters = {n: p.detach().cpu() for n, p in tuned.named_parameters() if p.requires_grad}
    assert all(p.dtype == torch.float32 for p in parameters.values())
    return told, [row["loss"] for row in curve if "loss" in row], parameters


@pytest.mark.parametrize(
    "knobs",
    [{}, {"packing": True, "pack_length": 32}, {"gradient_checkpointing": True}],
    ids=["rows", "packed", "checkpointed"],
)
def test_losses_are_the_cpus(
    knobs: dict[str, Any], tiny_model: Path, tmp_path: Path, device: str
) -> None:
    told, here, _ = tune(tiny_model, tmp_path / "cpu", "cpu", **knobs)
    said, there, _ = tune(tiny_model, tmp_path / "gpu", device, **knobs)
    assert said.steps == told.steps == 8
    assert there == pytest.approx(here, rel=1e-2)
    assert said.validation_loss == pytest.approx(told.validation_loss, rel=1e-2)
    _, halves, _ = tune(tiny_model, tmp_path / "bf16", device, "bfloat16", **knobs)
    assert halves == pytest.approx(here, rel=5e-2)


def test_large_logits_have_the_same_loss(
    tiny_model: Path, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, small, _ = tune(tiny_model, tmp_path / "small", device)
    monkeypatch.setattr(sft, "SMALL_LOGITS", 0)  # TRL's own loss, in tiles
    _, large, _ = tune(tiny_model, tmp_path / "large", device)
    assert large == pytest.approx(small, rel=1e-3)


def test_killed_and_resumed(
    tiny_model: Path, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, whole = tune(tiny_model, tmp_path / "whole", device, dropout=0.1)
    original = loop.StopWhenAsked

    class StopAndKill(original):  # type: ignore[misc, valid-type]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 5:
                raise ConnectionAbortedError("killed")

    monkeypatch.setattr(loop, "StopWhenAsked", StopAndKill)
    with pytest.raises(ConnectionAbortedError):
        tune(tiny_model, tmp_path / "broken", device, dropout=0.1)
    monkeypatch.setattr(loop, "StopWhenAsked", original)
    told, _, resumed = tune(tiny_model, tmp_path / "broken", device, dropout=0.1)
    assert told.resumed_from == 3
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-3, atol=1e-5)
