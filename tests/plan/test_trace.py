"""A traced step is what a real step of the same model keeps and computes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Lfm2Config

from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base
from edgetune.plan.trace import (
    StepSettings,
    _trace,
    cut_layers,
    find_period,
    read_config,
    trace_step,
)
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


@pytest.mark.parametrize(
    ("kinds", "period"),
    [
        (None, 1),
        (["sliding_attention", "sliding_attention", "full_attention"], 1),
        (["conv", "conv", "full_attention", "conv", "conv", "full_attention"], 3),
        (["linear_attention"] * 3 + ["full_attention"] + ["linear_attention"], 4),
        (["conv", "full_attention", "full_attention"], 3),
    ],
)
def test_layers_of_several_kinds_repeat(kinds: list[str] | None, period: int) -> None:
    text = SimpleNamespace(layer_types=kinds)
    assert find_period(SimpleNamespace(get_text_config=lambda: text)) == period


@pytest.mark.parametrize("layers", [4, 6, 7])
def test_a_hybrid_of_two_kinds_of_layers_is_traced_by_its_period(layers: int) -> None:
    kinds = (["conv", "full_attention"] * 4)[:layers]
    config = Lfm2Config(
        hidden_size=64, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=256, layer_types=kinds, block_auto_adjust_ff_dim=False,
    )  # fmt: skip
    section = TuneSection(rank=4, dropout=0.0)
    settings = StepSettings(section, True, "float32", 2, 32)
    found, whole = trace_step(config, settings), _trace(config, settings)
    assert found.flops == pytest.approx(whole.flops, rel=0.02 if layers % 2 == 0 else 0.1)
    assert found.saved_bytes == pytest.approx(
        whole.saved_bytes, rel=0.02 if layers % 2 == 0 else 0.1
    )


def test_cut_layers_keeps_the_configuration_it_was_given(tmp_path: Path) -> None:
    config = read_config(make_model(tmp_path / "model", layers=3))
    assert cut_layers(config, 1).num_hidden_layers == 1
    assert config.num_hidden_layers == 3
