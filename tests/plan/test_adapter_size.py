"""The plan counts an adapter's parameters as PEFT makes them, without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base
from edgetune.plan.adapter_size import count_trainable
from edgetune.plan.trace import StepSettings, read_config, trace_step
from edgetune.recipe import TuneSection
from tests.conftest import make_model


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": "auto", "rank_budget": 3},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"rank_pattern": {"layers.1.*": 2}, "dora": True},
        {"method": "lora", "init": "pissa"},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_trained_parameters_are_counted_without_weights(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder, section = make_model(tmp_path / "model", layers=3), TuneSection(**settings)
    model: Any = add_adapter(load_base(folder, False, "float32", "cpu"), section, 0)
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert count_trainable(read_config(folder), section) == trained
    trace_step(read_config(folder), StepSettings(section, True, "float32", 2, 32))
