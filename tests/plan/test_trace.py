"""A traced step is what a real step of the same model keeps and computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base
from edgetune.plan.trace import StepSettings, cut_layers, read_config, trace_step
from edgetune.recipe import TuneSection
from tests.conftest import make_model


def run_step(folder: Path, section: TuneSection, batch: int, length: int) -> tuple[int, int]:
    """Return the bytes a real forward pass keeps, and the operations of the whole step."""
    model: Any = add_adapter(load_base(folder, False, "float32", "cpu"), section, 0)
    model.train()
    if section.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    saved: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids_BT = torch.ones((batch, length), dtype=torch.long)
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[0, 0] = 0  # padding: attention gets a mask, as it does in training
    decoder = model.get_base_model().model
    with FlopCounterMode(display=False) as flops:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            hidden_BTD = decoder(
                input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
            ).last_hidden_state
        hidden_BTD.sum().backward()
    return sum(size for size, _ in saved.values()), flops.get_total_flops()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_saved_bytes_and_flops_equal_a_real_step(
    tmp_path: Path, checkpointing: bool, dropout: float
) -> None:
    folder = make_model(tmp_path / "model", layers=3)
    section = TuneSection(rank=4, dropout=dropout, gradient_checkpointing=checkpointing)
    step = trace_step(read_config(folder), StepSettings(section, True, "float32", 2, 32))
    saved, flops = run_step(folder, section, 2, 32)
    assert step.saved_bytes == pytest.approx(saved, rel=0.02)
    assert step.flops == pytest.approx(flops, rel=0.01)


def test_cut_layers_keeps_the_configuration_it_was_given(tmp_path: Path) -> None:
    config = read_config(make_model(tmp_path / "model", layers=3))
    assert cut_layers(config, 1).num_hidden_layers == 1
    assert config.num_hidden_layers == 3
