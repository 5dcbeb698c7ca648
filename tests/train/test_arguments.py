"""The trainer's arguments follow the recipe and the model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgetune.log import Log
from edgetune.recipe import TuneSection
from edgetune.train.arguments import trainer_arguments
from edgetune.train.inputs import TrainingRun


@pytest.mark.parametrize(
    "device, dtype, scaled",
    [("cuda", torch.float16, True), ("cuda", torch.bfloat16, False), ("cpu", torch.float16, False)],
)
def test_only_a_float16_base_on_a_gpu_has_its_loss_scaled(
    device: str, dtype: torch.dtype, scaled: bool, tmp_path: Path
) -> None:
    def parameters() -> Any:
        for kind in (torch.uint8, dtype, torch.float32):  # NF4, norms, an adapter
            yield SimpleNamespace(device=torch.device(device), dtype=kind)

    run = TrainingRun("teacher", 0, tmp_path, Log(quiet=True))
    model = SimpleNamespace(parameters=parameters)
    arguments = trainer_arguments(TuneSection(), 1, run, model, False)
    assert arguments["fp16"] == scaled and not arguments["bf16"]
