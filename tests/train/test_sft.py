"""The loss at trained positions only is TRL's loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgetune.data.encode import Encoded
from edgetune.log import Log
from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base, load_tokenizer
from edgetune.recipe import TuneSection
from edgetune.train import sft

ROWS = [Encoded([5 + i + n for i in range(4 + n)], [i >= 2 for i in range(4 + n)], False)
        for n in range(8)]  # fmt: skip


def tuned(tiny_model: Path, out: Path) -> tuple[dict[str, torch.Tensor], float | None]:
    section = TuneSection(
        rank=4, max_steps=3, batch_size=2, gradient_accumulation=2, eval_every=3, packing=False,
        learning_rate=1e-2,
    )  # fmt: skip
    model = add_adapter(load_base(tiny_model, True, "float32", "cpu"), section, seed=0)
    out.mkdir()
    done = sft.tune(
        model, load_tokenizer(tiny_model), ROWS, ROWS[:3], section, 64, 0, out, Log(quiet=True)
    )
    return {n: p for n, p in model.named_parameters() if p.requires_grad}, done.validation_loss


def test_small_logits_give_the_same_training(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, small_loss = tuned(tiny_model, tmp_path / "small")
    monkeypatch.setattr(sft, "SMALL_LOGITS", 0)
    tiled, tiled_loss = tuned(tiny_model, tmp_path / "tiled")
    assert small_loss == pytest.approx(tiled_loss, rel=1e-5)
    assert small.keys() == tiled.keys()
    for name, weights in small.items():
        torch.testing.assert_close(weights, tiled[name], rtol=1e-3, atol=1e-5)
