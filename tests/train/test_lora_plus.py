"""LoRA+: B learns faster than A, by the ratio, in any optimizer and at each step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base
from edgetune.recipe import TuneSection
from edgetune.train.lora_plus import split_groups
from tests.train.test_resume import run_tune


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_every_factor_is_in_one_group_of_its_rate(
    tiny_model: Path, kind: type[torch.optim.Optimizer]
) -> None:
    model = add_adapter(load_base(tiny_model, False, "float32", "cpu"), TuneSection(rank=2), 0)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = kind([{"params": list(trained.values()), "weight_decay": 0.1}], lr=1e-3)  # type: ignore[call-arg]
    split_groups(optimizer, model, 16.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trained)
    for name, parameter in trained.items():
        assert rates[id(parameter)] == pytest.approx(16e-3 if "lora_B" in name else 1e-3)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}


def test_b_moves_as_many_times_as_far_at_the_first_step(tiny_model: Path, tmp_path: Path) -> None:
    """Adam's first step is the rate in each weight that has a gradient, whatever its size."""
    settings = {"max_steps": 1, "learning_rate": 1e-3, "scheduler": "constant"}
    moved = {
        ratio: run_tune(tiny_model, tmp_path / f"{ratio}", lora_plus_ratio=ratio, **settings)
        for ratio in (1.0, 8.0)
    }
    for name, weight in moved[1.0].adapter.items():
        other = moved[8.0].adapter[name]
        if "lora_B" in name:
            torch.testing.assert_close(other, 8 * weight, rtol=1e-3, atol=1e-6)
        else:
            assert torch.equal(other, weight)
