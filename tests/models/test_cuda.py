"""Models on a GPU: the same NF4 values as on the CPU, and the dtype that was trained in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from click.testing import CliRunner

from edgetune.cli.doctor import command as doctor
from edgetune.models import hardware
from edgetune.models.adapters import add_adapter, save_adapter
from edgetune.models.compute_dtype import choose_dtype
from edgetune.models.load import load_base, load_model
from edgetune.models.nf4 import through_nf4
from edgetune.models.ref import ModelRef
from edgetune.recipe import TuneSection
from tests.conftest import make_model

pytestmark = pytest.mark.gpu
IDS = torch.arange(5, 37).view(2, 16)
HALF = 0.12  # what rounding to bfloat16 makes of a tiny model of wide random weights


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """‖found − wanted‖ / ‖wanted‖."""
    found, wanted = found.detach().float().cpu(), wanted.detach().float().cpu()
    return float((found - wanted).norm() / wanted.norm())


def test_what_this_machine_can_do(device: str) -> None:
    assert hardware.choose_device("auto") == hardware.choose_device(device) == device
    found = json.loads(CliRunner().invoke(doctor, ["--json"]).stdout)["machine"]
    assert bool(found["gpu"]) == (device == "cuda")
    if device == "cuda":
        assert choose_dtype("auto", device).name == found["compute_dtype"] == "bfloat16"
        assert hardware.count_gpus() >= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(64, 64), (33, 96), (256, 172), (1024, 1024)])
def test_nf4_is_the_same_on_both(shape: tuple[int, int], dtype: torch.dtype, device: str) -> None:
    torch.manual_seed(0)
    weight = (0.02 * torch.randn(shape)).to(dtype)
    here, there = through_nf4(weight, dtype), through_nf4(weight.to(device), dtype)
    # A weight at the middle between two levels may go either way.
    assert off(there, here) < 1e-2
    assert (there.cpu() != here).float().mean() < 1e-2


@pytest.mark.parametrize("hidden", [64, 96])
def test_packed_weights_compute_as_on_the_cpu(hidden: int, tmp_path: Path, device: str) -> None:
    folder = make_model(tmp_path / "model", hidden=hidden)
    model = load_base(folder, True, "float32", device)
    if device == "cuda":
        packed = [one for one in model.modules() if isinstance(one, Linear4bit)]
        assert packed and all(one.weight.device.type == "cuda" for one in packed)
        assert {str(place) for place in model.hf_device_map.values()} == {"cuda:0"}
    with torch.no_grad():
        wanted = load_base(folder, True, "float32", "cpu")(input_ids=IDS).logits
        assert off(model(input_ids=IDS.to(device)).logits, wanted) < 2e-2
        whole = load_base(folder, False, "bfloat16", device)
        wanted = load_base(folder, False, "float32", "cpu")(input_ids=IDS).logits
        assert off(whole(input_ids=IDS.to(device)).logits, wanted) < HALF


@pytest.mark.parametrize("trained", ["float32", "bfloat16"])
def test_an_adapter_finds_the_weights_it_was_trained_on(
    trained: str, tiny_model: Path, tmp_path: Path, device: str
) -> None:
    tuned = add_adapter(load_base(tiny_model, True, trained, device), TuneSection(rank=4), 0)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save_adapter(tuned, tmp_path / "adapter")
    ref = ModelRef(tiny_model, tmp_path / "adapter", nf4=True, nf4_dtype=trained)
    with torch.no_grad():
        wanted = tuned.eval()(input_ids=IDS.to(device)).logits
        for dtype in ("float32", "bfloat16"):
            found = load_model(ref, dtype, device)
            same = device == "cuda" or dtype == trained
            assert off(found(input_ids=IDS.to(device)).logits, wanted) < (1e-2 if same else HALF)
            if device == "cuda":
                packed = next(one for one in found.modules() if isinstance(one, Linear4bit))
                assert packed.compute_dtype == getattr(torch, trained)
        limit = 2e-2 if trained == "float32" else HALF
        assert off(load_model(ref, "float32", "cpu")(input_ids=IDS).logits, wanted) < limit
        assert off(load_model(ModelRef(tiny_model), "float32")(input_ids=IDS).logits, wanted) > 0.2
