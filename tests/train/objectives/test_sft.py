"""The loss from hidden states, and from small logits, is TRL's loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgetune.data.encoded import Encoded
from edgetune.log import Log
from edgetune.models.adapters import add_adapter
from edgetune.models.load import load_base
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import TuneSection
from edgetune.train.inputs import TrainingData, TrainingRun
from edgetune.train.objectives import sft

ROWS = [Encoded([5 + i + n for i in range(4 + n)], [i >= 2 for i in range(4 + n)], False)
        for n in range(8)]  # fmt: skip


def tuned(
    tiny_model: Path, out: Path, packing: bool
) -> tuple[dict[str, torch.Tensor], float | None]:
    section = TuneSection(
        rank=4, max_steps=3, batch_size=2, gradient_accumulation=2, eval_every=3, packing=packing,
        learning_rate=1e-2,
    )  # fmt: skip
    model = add_adapter(load_base(tiny_model, True, "float32", "cpu"), section, seed=0)
    out.mkdir()
    done = sft.tune(
        model, load_tokenizer(tiny_model), TrainingData(ROWS, ROWS[:3]), section, 64,
        TrainingRun("teacher", 0, out, Log(quiet=True)),
    )  # fmt: skip
    return {n: p for n, p in model.named_parameters() if p.requires_grad}, done.validation_loss


@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("small", [sft.SMALL_LOGITS, 0], ids=["small-logits", "hidden-states"])
def test_the_loss_trains_as_trls_does(
    small: int, packing: bool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sft, "SMALL_LOGITS", small)
    ours, our_loss = tuned(tiny_model, tmp_path / "ours", packing)
    monkeypatch.setattr(sft, "SMALL_LOGITS", 0)
    monkeypatch.setattr(sft, "find_head", lambda model: None)
    trls, trl_loss = tuned(tiny_model, tmp_path / "trl", packing)
    assert our_loss == pytest.approx(trl_loss, rel=1e-5)
    assert ours.keys() == trls.keys()
    for name, weights in ours.items():
        torch.testing.assert_close(weights, trls[name], rtol=1e-3, atol=1e-5)


def test_a_head_of_known_formula_never_reaches_trls_tiles(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("TRL computed the loss")

    monkeypatch.setattr(sft, "SMALL_LOGITS", 0)
    monkeypatch.setattr(sft.SFTTrainer, "compute_loss", refuse)
    tuned(tiny_model, tmp_path / "out", packing=True)
