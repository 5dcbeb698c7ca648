"""Students: the least influential layers go, the rest keep their bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgetune.data.encoded import Encoded
from edgetune.distill.prune_depth import (
    choose_layers,
    cut_config,
    cut_depth,
    first_vocabulary_difference,
)
from edgetune.errors import InputError
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer
from tests.conftest import make_model, make_tokenizer


def some_rows() -> list[Encoded]:
    """Rows of several lengths, trained from the third token on."""
    return [
        Encoded([*range(3 + n, 20 + 2 * n)], [i > 1 for i in range(17 + n)], False)
        for n in range(4)
    ]


def test_a_layer_that_does_nothing_goes_first(tmp_path: Path) -> None:
    model = load_model(ModelRef(make_model(tmp_path / "m", layers=4)))
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight.zero_()
        model.model.layers[2].mlp.down_proj.weight.zero_()
    kept, removed = choose_layers(model, some_rows(), 2)
    assert removed[0] == (2, pytest.approx(0, abs=1e-6))
    assert removed[1][1] > 1e-4
    assert kept == sorted({0, 1, 2, 3} - {layer for layer, _ in removed})


def test_measured_kl_equals_kl_of_the_cut_model(tmp_path: Path) -> None:
    """The KL after the last removal is that of the student that is written."""
    base = make_model(tmp_path / "m", layers=4)
    model, rows = load_model(ModelRef(base)), some_rows()[:1]
    kept, removed = choose_layers(model, rows, 2)
    cut_depth(base, kept, tmp_path / "cut")
    ids = torch.tensor([rows[0].ids])
    with torch.no_grad():
        p = model(input_ids=ids).logits[0, 1:-1].log_softmax(-1)
        q = load_model(ModelRef(tmp_path / "cut"))(input_ids=ids).logits[0, 1:-1].log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1).mean().item()
    assert removed[-1][1] == pytest.approx(kl, rel=1e-3)


def test_a_student_as_deep_as_its_teacher_is_refused(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="2 layers; a student of 2"):
        choose_layers(load_model(ModelRef(tiny_model)), some_rows(), 2)


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


def test_another_tokenizer_is_told_by_a_token(tiny_model: Path, tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "t", size=300)
    ours = load_tokenizer(tiny_model)
    assert first_vocabulary_difference(ours, load_tokenizer(tiny_model)) is None
    assert "for the teacher" in str(
        first_vocabulary_difference(ours, load_tokenizer(tmp_path / "t"))
    )
