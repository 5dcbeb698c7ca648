"""Tuning on a GPU: the CPU's losses, packed rows kept apart, a resumed run like an unbroken one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgetune.train.objectives import sft
from edgetune.train.optimizers import OPTIMIZERS
from tests.train.test_resume import kill_and_resume, run_tune

pytestmark = pytest.mark.gpu


SETTINGS: dict[str, Any] = {"max_steps": 8, "batch_size": 4, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    "settings",
    [{}, {"packing": True, "pack_length": 32}, {"gradient_checkpointing": True}],
    ids=["rows", "packed", "checkpointed"],
)
def test_losses_are_the_cpus(
    settings: dict[str, Any], tiny_model: Path, tmp_path: Path, device: str
) -> None:
    cpu = run_tune(tiny_model, tmp_path / "cpu", **SETTINGS, **settings)
    gpu = run_tune(tiny_model, tmp_path / "gpu", device, **SETTINGS, **settings)
    assert gpu.outcome.steps == cpu.outcome.steps == 8
    assert gpu.losses == pytest.approx(cpu.losses, rel=1e-2)
    assert gpu.outcome.validation_loss == pytest.approx(cpu.outcome.validation_loss, rel=1e-2)
    half = run_tune(tiny_model, tmp_path / "bf16", device, "bfloat16", **SETTINGS, **settings)
    assert half.losses == pytest.approx(cpu.losses, rel=5e-2)
    scaled = run_tune(tiny_model, tmp_path / "fp16", device, "float16", **SETTINGS, **settings)
    assert scaled.losses == pytest.approx(cpu.losses, rel=5e-2)


def test_large_logits_have_the_same_loss(
    tiny_model: Path, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = run_tune(tiny_model, tmp_path / "small", device, **SETTINGS)
    monkeypatch.setattr(sft, "SMALL_LOGITS", 0)  # TRL's own loss, in tiles
    large = run_tune(tiny_model, tmp_path / "large", device, **SETTINGS)
    assert large.losses == pytest.approx(small.losses, rel=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_killed_and_resumed(
    dtype: str, tiny_model: Path, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float16 the scale of the loss is resumed too."""
    settings: dict[str, Any] = {**SETTINGS, "dropout": 0.1}
    where = (device, dtype)
    whole = run_tune(tiny_model, tmp_path / "whole", *where, **settings).adapter
    resumed = kill_and_resume(monkeypatch, tiny_model, tmp_path / "broken", *where, **settings)
    assert resumed.outcome.resumed_from == 3
    for name, value in whole.items():
        torch.testing.assert_close(resumed.adapter[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if row.paged])
def test_a_paged_optimizer_trains_as_the_plain_one(
    name: str, tiny_model: Path, tmp_path: Path, device: str
) -> None:
    plain = run_tune(tiny_model, tmp_path / "plain", device, **SETTINGS)
    paged = run_tune(tiny_model, tmp_path / "paged", device, optimizer=name, **SETTINGS)
    assert paged.losses == pytest.approx(plain.losses, rel=1e-2)
