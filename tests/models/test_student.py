"""Students: the least influential layers go, the rest keep their bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgetune.errors import InputError
from edgetune.models.load import load_model, load_tokenizer
from edgetune.models.ref import ModelRef
from edgetune.models.student import (
    check_same_tokenizer,
    choose_layers,
    cut_config,
    cut_depth,
    measure_influence,
)
from tests.conftest import make_model, make_tokenizer


def test_a_layer_that_does_nothing_has_no_influence(tmp_path: Path) -> None:
    model = load_model(ModelRef(make_model(tmp_path / "m", layers=4)))
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight.zero_()
        model.model.layers[2].mlp.down_proj.weight.zero_()
    influence = measure_influence(model, [list(range(3, 40))])
    assert influence[2] == pytest.approx(0, abs=1e-6)
    assert choose_layers(influence, 3) == [0, 1, 3]


def test_first_layer_stays_and_too_many_are_refused() -> None:
    assert choose_layers([0.0, 0.3, 0.2, 0.9], 2) == [0, 3]
    with pytest.raises(InputError, match="4 layers, 5 cannot"):
        choose_layers([0.1] * 4, 5)


def test_cut_keeps_bytes_and_loads(tmp_path: Path) -> None:
    base = make_model(tmp_path / "m", layers=4)
    cut_depth(base, [0, 3], tmp_path / "cut")
    old = load_file(base / "model.safetensors")
    new = load_file(tmp_path / "cut" / "model.safetensors")
    assert torch.equal(
        new["model.layers.1.mlp.up_proj.weight"], old["model.layers.3.mlp.up_proj.weight"]
    )
    model = load_model(ModelRef(tmp_path / "cut"))
    assert len(model.model.layers) == 2
    assert load_tokenizer(tmp_path / "cut").chat_template == load_tokenizer(base).chat_template


def test_lists_of_one_entry_a_layer_are_cut() -> None:
    config = {
        "num_hidden_layers": 3,
        "layer_types": ["full", "sliding", "full"],
        "other": [1, 2, 3],
    }
    assert cut_config(config, [0, 1]) == {
        "num_hidden_layers": 2,
        "layer_types": ["full", "sliding"],
        "other": [1, 2, 3],
    }


def test_another_tokenizer_is_refused_with_a_token(tiny_model: Path, tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "t", size=300)
    with pytest.raises(InputError, match="tokenizer differs"):
        check_same_tokenizer(load_tokenizer(tiny_model), load_tokenizer(tmp_path / "t"), "x")
    check_same_tokenizer(load_tokenizer(tiny_model), load_tokenizer(tiny_model), "x")
