"""PiSSA starts as the base, and is saved as what it added to the base, at its own scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgetune.models.adapters import add_adapter, save_adapter
from edgetune.models.load import load_base, load_model
from edgetune.models.ref import ModelRef
from edgetune.recipe import TuneSection

IDS = torch.arange(3, 35)[None]


def pissa(base: Path, **settings: Any) -> Any:
    section = TuneSection(rank=4, method="lora", init="pissa", **settings)
    return add_adapter(load_base(base, False, "float32", "cpu"), section, seed=0).eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS).logits


def test_starts_as_the_base_with_its_main_part_trained(tiny_model: Path) -> None:
    model, base = pissa(tiny_model), load_base(tiny_model, False, "float32", "cpu")
    torch.testing.assert_close(logits(model), logits(base), atol=1e-4, rtol=1e-4)
    layer = model.base_model.model.model.layers[0].mlp.down_proj
    whole = base.model.layers[0].mlp.down_proj.weight
    update = 8 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    values = torch.linalg.svdvals(whole)
    torch.testing.assert_close(torch.linalg.svdvals(update)[:4], values[:4], rtol=1e-4, atol=1e-5)
    rest = torch.linalg.svdvals(layer.base_layer.weight)
    torch.testing.assert_close(rest[:4], values[4:8], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"rslora": True, "alpha": 5.0}, {"dora": True}])
def test_an_untrained_adapter_is_saved_as_no_update(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    save_adapter(pissa(tiny_model, **settings), tmp_path / "adapter")
    found = logits(load_model(ModelRef(tiny_model, tmp_path / "adapter")))
    base = logits(load_base(tiny_model, False, "float32", "cpu"))
    torch.testing.assert_close(found, base, atol=1e-4, rtol=1e-4)


def test_is_saved_as_a_plain_adapter_of_twice_the_rank(tiny_model: Path, tmp_path: Path) -> None:
    save_adapter(pissa(tiny_model, rank_pattern={"q_proj": 3}), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True
    assert (config["r"], config["lora_alpha"]) == (8, 64)
    assert set(config["rank_pattern"].values()) == {6}
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    ranks = {name.split(".")[-3]: t.shape[0] for name, t in tensors.items() if "lora_A" in name}
    assert (ranks["q_proj"], ranks["k_proj"]) == (6, 8)


def test_a_plain_adapter_is_saved_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    model = add_adapter(load_base(tiny_model, False, "float32", "cpu"), TuneSection(rank=4), seed=0)
    save_adapter(model, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4
