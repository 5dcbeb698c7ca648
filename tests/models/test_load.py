"""What is loaded: 4-bit weights unpacked where they are only read."""

from __future__ import annotations

from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit

from edgetune.models import load
from edgetune.models.ref import ModelRef
from edgetune.recipe import TuneSection


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
