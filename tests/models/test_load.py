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
from edgetune.models.tokenizer_files import load_tokenizer
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


def test_what_was_trained_in_bfloat16_is_merged_and_measured_as_such(
    tiny_model: Path, tmp_path: Path
) -> None:
    """NF4 of bfloat16 weights is not NF4 of float32 ones; both sides of a merge take the former."""
    from edgetune.models.adapters import add_adapter, save_adapter
    from edgetune.models.merge import write_merged

    tuned = add_adapter(load.load_base(tiny_model, True, "bfloat16", "cpu"), TuneSection(rank=4), 0)
    save_adapter(tuned, tmp_path / "adapter")
    ref = ModelRef(tiny_model, tmp_path / "adapter", nf4=True, nf4_dtype="bfloat16")
    write_merged(tiny_model, [tmp_path / "adapter"], tmp_path / "merged", "float32", "bfloat16")
    ids = torch.arange(5, 37).view(2, 16)
    with torch.no_grad():
        trained = load.load_model(ref)(input_ids=ids).logits
        merged = load.load_model(ModelRef(tmp_path / "merged"))(input_ids=ids).logits
        other = load.load_model(ModelRef(tiny_model, ref.adapter, nf4=True))(input_ids=ids).logits
    assert trained.dtype == torch.float32
    assert (trained - merged).abs().max() < 1e-5
    assert (trained - other).abs().max() > 1e-4
    assert ModelRef.from_json(ref.to_json(tmp_path), tmp_path).nf4_dtype == "bfloat16"


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
        load_tokenizer(tmp_path / "m")
    with pytest.raises(InputError, match="cannot load the tokenizer: range end index"):
        ort._load_tokenizer(path)
