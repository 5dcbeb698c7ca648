"""The loss from hidden states, and from small logits, is TRL's loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def labels_of(rows: list[Encoded], train_on: str) -> list[list[int]]:
    found = sft.as_dataset(rows, None, train_on)["labels"]
    return [[at for at, label in enumerate(row) if label != -100] for row in found]


def test_tokens_with_a_loss_are_those_that_the_recipe_names() -> None:
    rows = [
        Encoded(range(10, 20), [0, 0, 1, 1, 0, 0, 0, 1, 1, 1], False),  # two answers
        Encoded(range(10, 16), [1, 1, 1, 1, 1, 1], False),  # a text
        Encoded(range(10, 13), [0, 0, 0], True),  # an answer that was cut off
    ]
    assert labels_of(rows, "completions") == [[2, 3, 7, 8, 9], [1, 2, 3, 4, 5], []]
    assert labels_of(rows, "all") == [list(range(1, 10)), [1, 2, 3, 4, 5], [1, 2]]
    assert labels_of(rows, "last") == [[7, 8, 9], [1, 2, 3, 4, 5], []]
    assert [sft.count_trained(rows, kind) for kind in ("completions", "all", "last")] == [10, 16, 8]


def tune_rows(tiny_model: Path, out: Path, **settings: Any) -> tuple[Any, float | None]:
    section = TuneSection(rank=4, max_steps=2, batch_size=4, packing=False, **settings)
    model = add_adapter(load_base(tiny_model, False, "float32", "cpu"), section, seed=0)
    out.mkdir()
    data = TrainingData(ROWS, ROWS[:3])
    run = TrainingRun("teacher", 0, out, Log(quiet=True))
    return model, sft.tune(model, load_tokenizer(tiny_model), data, section, 64, run).train_loss


def test_loss_on_all_tokens_is_that_of_trl_over_whole_rows(
    tiny_model: Path, tmp_path: Path
) -> None:
    _, loss = tune_rows(tiny_model, tmp_path / "out", train_on="all")
    model = load_base(tiny_model, False, "float32", "cpu")
    losses = []
    for row in ROWS:
        ids = torch.tensor([list(row.ids)])
        losses.append((float(model(input_ids=ids, labels=ids).loss), len(row.ids) - 1))
    mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    assert loss == pytest.approx(mean, rel=0.2)  # of half of the rows each step
    assert loss != tune_rows(tiny_model, tmp_path / "answers")[1]


def test_noise_is_on_embeddings_while_training_alone(tiny_model: Path, tmp_path: Path) -> None:
    plain, plain_loss = tune_rows(tiny_model, tmp_path / "plain")
    noisy, noisy_loss = tune_rows(tiny_model, tmp_path / "noisy", neftune_alpha=5.0)
    assert noisy_loss != plain_loss
    ids = torch.tensor([list(ROWS[3].ids)])
    noisy.train()
    with torch.no_grad():  # nothing is left of it, in whatever mode
        assert torch.equal(noisy(input_ids=ids).logits, noisy(input_ids=ids).logits)
        embedding = noisy.get_input_embeddings()(ids)
        assert torch.equal(embedding, plain.get_input_embeddings()(ids))
