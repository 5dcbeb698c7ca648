"""What is loaded: 4-bit weights unpacked where they are only read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from edgetune.errors import InputError
from edgetune.models import load
from edgetune.models.ref import ModelRef
from edgetune.recipe import TuneSection
from edgetune.runtimes import ort


def test_unpacked_weights_answer_as_packed_ones(tiny_model: Path, tmp_path: Path, monkeypatch):
    from edgetune.models.adapters import add_adapter, save_adapter

    tuned = add_adapter(load.load_base(tiny_model, True, "float32", "cpu"), TuneSection(rank=4), 0)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save_adapter(tuned, tmp_path / "adapter")
    ref = ModelRef(tiny_model, tmp_path / "adapter", nf4=True)
    ids = torch.arange(5, 37).view(2, 16)
    with torch.no_grad():
        unpacked = load.load_model(ref)
        monkeypatch.setattr(load, "fits_unpacked", lambda model: False)
        packed = load.load_model(ref)
        assert any(isinstance(one, Linear4bit) for one in packed.modules())
        assert not any(isinstance(one, Linear4bit) for one in unpacked.modules())
        assert torch.equal(unpacked(input_ids=ids).logits, packed(input_ids=ids).logits)


def test_a_model_larger_than_memory_stays_packed():
    huge = torch.nn.Linear(1, 1)
    huge.in_features = huge.out_features = 1 << 22
    assert not load.fits_unpacked(torch.nn.ModuleList([huge]))


@pytest.mark.parametrize("prefix", ["(a+)+$", "x" * 100_000])  # seeds 2810, 301 and 2200 of fuzz.py
def test_a_tokenizer_that_makes_rust_panic(prefix: str, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "m")
    path = tmp_path / "m" / "tokenizer.json"
    value = json.loads(path.read_text())
    value["model"]["continuing_subword_prefix"] = prefix
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="cannot load the tokenizer: range end index"):
        load.load_tokenizer(tmp_path / "m")
    with pytest.raises(InputError, match="cannot load the tokenizer: range end index"):
        ort._load_tokenizer(path)
