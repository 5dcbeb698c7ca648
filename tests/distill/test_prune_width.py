"""A width cut keeps what it says, and a full-size one changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgetune.data.encoded import Encoded
from edgetune.distill.prune_width import Widths, check_widths, cut_width, measure_importance
from edgetune.errors import InputError, Unsupported
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from tests.tiny_models import make_tiny_model

ROWS = [Encoded(list(range(3 + n, 40 + n)), [False] * 37, False) for n in range(3)]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "granite", "olmo2"])
def test_families(family: str, tmp_path: Path) -> None:
    base = make_tiny_model(family, tmp_path / "base", real_tokenizer=False)
    model = load_model(ModelRef(base))
    importance = measure_importance(model, ROWS)
    config = model.config
    same = Widths(config.intermediate_size, config.num_attention_heads, config.hidden_size)
    cut_width(base, [0, 1], importance, same, tmp_path / "same")
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        wanted = model(ids).logits
        torch.testing.assert_close(load_model(ModelRef(tmp_path / "same"))(ids).logits, wanted)
    if family == "olmo2":
        return  # its norms of queries and keys go over all heads
    small = Widths(mlp=96, heads=2, hidden=32)
    cut_width(base, [1, 0], importance, small, tmp_path / "small")
    narrow = load_model(ModelRef(tmp_path / "small"))
    layer = narrow.get_decoder().layers[0]
    assert layer.mlp.gate_proj.weight.shape == (96, 32)
    assert layer.self_attn.q_proj.weight.shape[1] == 32
    with torch.no_grad():
        assert narrow(ids).logits.isfinite().all()


def test_the_channels_that_did_most_stay(tmp_path: Path) -> None:
    base = make_tiny_model("llama", tmp_path / "base")
    model = load_model(ModelRef(base))
    importance = measure_importance(model, ROWS)
    cut_width(base, [0, 1], importance, Widths(mlp=64), tmp_path / "small")
    kept = importance.mlp[1].topk(64).indices.sort().values
    name = "model.layers.1.mlp.down_proj.weight"
    before = load_file(base / "model.safetensors")[name]
    after = load_file(tmp_path / "small" / "model.safetensors")[name]
    assert after.equal(before[:, kept])


def test_widths_that_cannot_be_cut_are_refused_by_name(tmp_path: Path) -> None:
    base = make_tiny_model("llama", tmp_path / "base")
    config = load_model(ModelRef(base)).config.to_dict()
    for widths, said in (
        (Widths(mlp=100), "multiple of 32"),
        (Widths(hidden=128), "more than the teacher's 64"),
        (Widths(heads=3), "multiple of"),
    ):
        with pytest.raises(InputError, match=said):
            check_widths(config, widths)
    gpt2 = load_model(ModelRef(make_tiny_model("gpt2", tmp_path / "gpt2", real_tokenizer=False)))
    with pytest.raises(Unsupported, match="not separate"):
        measure_importance(gpt2, ROWS)
