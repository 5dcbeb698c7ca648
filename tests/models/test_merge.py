"""Merging: the sum is right, over the base that was trained on; foreign adapters are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgetune.errors import InputError, Unsupported
from edgetune.models import load
from edgetune.models.adapters import add_adapter, save_adapter
from edgetune.models.load import load_base, load_model
from edgetune.models.merge import through_nf4, write_merged
from edgetune.models.ref import ModelRef
from edgetune.recipe import TuneSection
from tests.conftest import make_model

IDS = torch.arange(3, 35)[None]


def random_adapter(base: Path, folder: Path, nf4: bool = False, **config: object) -> Path:
    """An adapter whose update is large enough to matter."""
    model = add_adapter(load_base(base, nf4, "float32", "cpu"), TuneSection(rank=4), seed=1)
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    save_adapter(model, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


@torch.no_grad()
def logits(ref: ModelRef) -> torch.Tensor:
    return load_model(ref)(input_ids=IDS).logits


def test_folded_equals_base_with_adapter(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter")
    folded = write_merged(tiny_model, adapter, tmp_path / "merged", "float32")
    wanted = logits(ModelRef(tiny_model, adapter))
    torch.testing.assert_close(logits(ModelRef(tmp_path / "merged")), wanted, atol=1e-4, rtol=1e-4)
    assert len(folded) == 2 * 7
    assert (wanted - logits(ModelRef(tiny_model))).abs().max() > 0.1, "the adapter did nothing"


def test_rslora_scale(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", use_rslora=True)
    write_merged(tiny_model, adapter, tmp_path / "merged", "float32")
    wanted = logits(ModelRef(tiny_model, adapter))
    torch.testing.assert_close(logits(ModelRef(tmp_path / "merged")), wanted, atol=1e-4, rtol=1e-4)


def test_adapter_over_nf4_fits_the_dequantized_base(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", nf4=True)
    write_merged(tiny_model, adapter, tmp_path / "original", "float32")
    write_merged(tiny_model, adapter, tmp_path / "dequantized", "float32", nf4_dtype="float32")
    trained = logits(ModelRef(tiny_model, adapter, nf4=True))
    near = (logits(ModelRef(tmp_path / "dequantized")) - trained).abs().max()
    far = (logits(ModelRef(tmp_path / "original")) - trained).abs().max()
    assert near < 1e-3 < far


def test_through_nf4_is_what_the_loader_made(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitsandbytes.functional import dequantize_4bit
    from safetensors.torch import load_file

    weights = load_file(tiny_model / "model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    unpacked = load_base(tiny_model, True, "float32", "cpu").get_submodule(name).weight
    monkeypatch.setattr(load, "fits_unpacked", lambda model: False)
    packed = load_base(tiny_model, True, "float32", "cpu").get_submodule(name).weight
    made = through_nf4(weights[f"{name}.weight"], torch.float32)
    assert torch.equal(made, unpacked.float())
    assert torch.equal(made, dequantize_4bit(packed.data, packed.quant_state).float())
    assert not torch.equal(made, weights[f"{name}.weight"].float())


def test_adapter_of_another_base_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    deeper = make_model(tmp_path / "deeper", layers=3)
    adapter = random_adapter(deeper, tmp_path / "adapter")
    with pytest.raises(InputError, match="which this base does not have"):
        write_merged(tiny_model, adapter, tmp_path / "merged", "float32")
    with pytest.raises(InputError, match="which this base does not have"):
        load_model(ModelRef(tiny_model, adapter))
    wider = make_model(tmp_path / "wider", hidden=96)
    adapter = random_adapter(wider, tmp_path / "adapter-wide")
    with pytest.raises(InputError, match="channels where the base has"):
        load_model(ModelRef(tiny_model, adapter))


def test_dora_is_refused_by_name(tiny_model: Path, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_model, tmp_path / "adapter", use_dora=True)
    with pytest.raises(Unsupported, match="use_dora"):
        write_merged(tiny_model, adapter, tmp_path / "merged", "float32")
