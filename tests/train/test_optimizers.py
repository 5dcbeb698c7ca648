"""Each optimizer and schedule of the recipe trains; a resumed run keeps the optimizer's state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from edgetune.distill.losses import CrossEntropy
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.load import load_base
from edgetune.ops import choose
from edgetune.plan import make_job
from edgetune.plan.estimate import estimate_stages
from edgetune.plan.machine import Machine
from edgetune.recipe import DistillSection, Recipe, TuneSection
from edgetune.train import loop
from edgetune.train.distillation.trainer import train_student
from edgetune.train.inputs import DistillationData, TrainingRun
from edgetune.train.optimizers import OPTIMIZERS, check_optimizer
from tests.train.test_resume import kill_and_resume, run_tune, some_rows

ON_CPU = [name for name, row in OPTIMIZERS.items() if not row.paged]


@pytest.mark.parametrize("name", ON_CPU)
def test_an_optimizer_takes_a_step(tiny_model: Path, tmp_path: Path, name: str) -> None:
    model = load_base(tiny_model, False, "float32", "cpu")
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    section = DistillSection(max_steps=1, batch_size=4, optimizer=name, warmup_ratio=0.0)
    loss = CrossEntropy(choose("sparse_loss", "torch"))
    run = TrainingRun("student", 0, tmp_path, Log(quiet=True))
    train_student(model, loss, DistillationData(some_rows(4)), section, run)
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert any("mlp" in n for n in moved) and any("self_attn" in n for n in moved)


def test_the_8_bit_state_of_a_resumed_run_is_that_of_an_unbroken_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"optimizer": "adamw_8bit", "rank": 64}  # below 4,096 weights a state has 32 bits
    whole = run_tune(tiny_model, tmp_path / "whole", **settings).adapter
    resumed = kill_and_resume(monkeypatch, tiny_model, tmp_path / "broken", **settings)
    assert max(weights.numel() for weights in whole.values()) >= 4096
    assert all(torch.equal(whole[name], resumed.adapter[name]) for name in whole)


@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if row.paged])
def test_a_paged_optimizer_is_refused_on_the_cpu(name: str) -> None:
    check_optimizer(name, "cuda", "tune.optimizer")
    with pytest.raises(InputError, match=r"tune\.optimizer: .* on the CPU"):
        check_optimizer(name, "cpu", "tune.optimizer")


def _rates(tiny_model: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    """Return the learning rate of each of 8 steps."""
    rates: list[float] = []
    original = loop.SealCheckpoints

    class Watch(original):  # type: ignore[misc, valid-type]
        def on_pre_optimizer_step(self, *_: Any, optimizer: Any = None, **__: Any) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    with monkeypatch.context() as patch:
        patch.setattr(loop, "SealCheckpoints", Watch)
        run_tune(tiny_model, out, learning_rate=1.0e-3, max_steps=8, **settings)
    return [round(rate * 1e3, 3) for rate in rates]


def test_schedules_have_the_shapes_of_their_names(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rates(name: str, **settings: Any) -> list[float]:
        settings = {"scheduler": name, "warmup_ratio": 0.25, **settings}
        found: list[float] = _rates(tiny_model, tmp_path / name, monkeypatch, **settings)
        return found

    found = {
        name: rates(name, **({"warmup_ratio": 0.05} if name == "constant" else {}))
        for name in get_args(TuneSection.model_fields["scheduler"].annotation)
    }
    assert found["constant"] == [1.0] * 8
    assert found["constant_with_warmup"] == [0.0, 0.5, *[1.0] * 6]
    assert found["linear"] == pytest.approx([0, 0.5, *(1 - i / 6 for i in range(6))], abs=1e-3)
    assert found["cosine"][2:5] == pytest.approx([1.0, 0.933, 0.75], abs=1e-3)
    assert found["cosine_with_min_lr"][2:4] == pytest.approx([1.0, 0.94], abs=1e-3)
    assert found["cosine_with_min_lr"][-1] > 0.1 > found["cosine"][-1]
    assert found["inverse_sqrt"][2] > found["inverse_sqrt"][-1] > found["linear"][-1]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_planned_memory_follows_the_optimizer(
    tiny_model: Path, device_rows: Path, tmp_path: Path, device: str
) -> None:
    def plan(name: str) -> tuple[int, int]:
        tune = {"optimizer": name, "method": "full", "packing": False}
        recipe = {
            "model": {"path": str(tiny_model), "device": "cpu"},
            "data": {"train": str(device_rows), "max_length": 64}, "tune": tune,
        }  # fmt: skip
        job = make_job(Recipe.model_validate(recipe), tmp_path)
        machine: Machine = replace(job.machine, device=device)
        (estimate,) = estimate_stages(replace(job, machine=machine))
        used = estimate.gpu_bytes if device == "cuda" else estimate.why["optimizer and gradients"]
        return used, job.shape.total

    (adam, weights), (small, _), (none, _) = map(plan, ("adamw_torch", "adamw_8bit", "sgd"))
    assert adam - none == 8 * weights
    assert 0.25 < (small - none) / (adam - none) < 0.26
    if device == "cuda":
        assert plan("paged_adamw_32bit")[0] == none
