"""rank: auto spends the parameters of a uniform rank where gradients are large, always alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgetune.data.encoded import Encoded
from edgetune.models import load
from edgetune.models.load import load_base
from edgetune.recipe import TuneSection
from edgetune.train.rank_budget import Layer, find_ranks, measure_layers, spend_budget

SECTION = TuneSection(rank="auto", rank_budget=2, method="lora", batch_size=3)


def some_rows(count: int = 10) -> list[Encoded]:
    return [
        Encoded(ids := [(n * 11 + i * 5) % 300 + 3 for i in range(6 + n % 5)],
                [i >= 3 for i in range(len(ids))], False)
        for n in range(count)
    ]  # fmt: skip


def test_large_gains_get_ranks_and_the_budget_is_kept() -> None:
    layers = {
        "large": Layer((9.0, 8.0, 7.0, 6.0), 10),
        "small": Layer((1.0, 0.5), 10),
        "narrow": Layer((5.0,), 10),  # of one rank at most
        "costly": Layer((9.0, 4.0), 100),
    }
    ranks = spend_budget(layers, 2)
    spent = sum(ranks[name] * layer.cost for name, layer in layers.items())
    assert spent == 170  # what is left is less than another rank of the costly layer takes
    assert ranks == {"large": 4, "small": 2, "narrow": 1, "costly": 1}
    assert spend_budget(layers, 0) == dict.fromkeys(layers, 0)


def test_equal_layers_get_equal_ranks() -> None:
    layers = {f"layer {n}": Layer(tuple(1 / (k + 1) for k in range(8)), 12) for n in range(5)}
    assert set(spend_budget(layers, 3).values()) == {3}


@pytest.mark.parametrize("nf4", [False, True])
def test_gains_are_singular_values_of_the_gradient(
    tiny_model: Path, nf4: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "fits_unpacked", lambda _: not nf4)
    rows, wide = some_rows(), SECTION.model_copy(update={"rank_budget": 64})
    found = measure_layers(load_base(tiny_model, nf4, "float32", "cpu"), wide, rows, seed=0)
    monkeypatch.undo()
    model = load_base(tiny_model, nf4, "float32", "cpu")  # the same values, unpacked
    total = 0.0
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    for row in rows:
        ids = torch.tensor([list(row.ids)])
        labels = torch.where(torch.tensor([list(row.trained)]).bool(), ids, -100)
        logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1)
        total = total + torch.nn.functional.cross_entropy(
            logits, labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
    (total / sum(sum(row.trained[1:]) for row in rows)).backward()  # type: ignore[attr-defined]
    for name, layer in found.items():
        grad = model.get_submodule(name).weight.grad
        wanted = torch.linalg.svdvals(grad)[: len(layer.gains)]
        torch.testing.assert_close(torch.tensor(layer.gains), wanted, rtol=1e-3, atol=1e-5)
        assert layer.cost == sum(grad.shape) and len(layer.gains) == min(grad.shape)


def test_the_model_is_left_as_it_was(tiny_model: Path) -> None:
    model = load_base(tiny_model, False, "float32", "cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_layers(model, SECTION, some_rows(), seed=0)
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in before.items()
    }
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not hasattr(model, "peft_config")


def test_ranks_are_the_same_again_and_kept_for_a_resumed_training(
    tiny_model: Path, tmp_path: Path
) -> None:
    found = [
        find_ranks(
            load_base(tiny_model, False, "float32", "cpu"), SECTION, some_rows(), 0,
            tmp_path / name / "ranks.json",
        )
        for name in ("one", "two")
    ]  # fmt: skip
    assert found[0] == found[1] and len(found[0]) == 14 and len(set(found[0].values())) > 1
    (tmp_path / "one" / "ranks.json").write_text(json.dumps({"kept": 5}))
    assert find_ranks(None, SECTION, [], 0, tmp_path / "one" / "ranks.json") == {"kept": 5}
