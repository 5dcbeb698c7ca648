"""NF4 values equal those of bitsandbytes, for layers of any width."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import get_4bit_type
from bitsandbytes.nn import Linear4bit

from edgetune.models import load
from edgetune.models.nf4 import pack_nf4, through_nf4, unpack
from tests.conftest import make_model


def by_hand(weight: torch.Tensor) -> torch.Tensor:
    """Round blocks of 64 weights to the nearest of 16 levels (Dettmers et al. 2023, section 3)."""
    levels = get_4bit_type("nf4", device="cpu").float()
    flat = weight.float().flatten()
    blocks = torch.nn.functional.pad(flat, (0, -len(flat) % 64)).view(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks / largest)[..., None].sub(levels).abs().argmin(-1)
    return (levels[nearest] * largest).flatten()[: len(flat)].view(weight.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(64, 64), (40, 96), (30, 288), (9, 160), (64, 172), (7, 34)])
def test_values_are_those_of_the_paper(shape: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = (0.02 * torch.randn(shape)).to(dtype)
    found = through_nf4(weight, dtype)
    wanted = by_hand(weight)
    # The scales are quantized once more, and the values rounded to the dtype.
    assert (found - wanted).norm() / wanted.norm() < 0.02
    assert (found - weight.float()).norm() / weight.float().norm() < 0.1
    again = unpack(*pack_nf4(weight))
    assert again.dtype == dtype and torch.equal(again.float(), found)


def test_layers_of_uneven_width_compute_with_the_right_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "model", hidden=96)  # layers of 96 and 192 columns
    ids = torch.arange(5, 37).view(2, 16)
    exact = load.load_base(folder, False, "float32", "cpu")
    names = [name for name, one in exact.named_modules() if name.endswith("_proj")]
    for name in names:
        module = exact.get_submodule(name)
        module.weight.data = by_hand(module.weight.data)
    unpacked = load.load_base(folder, True, "float32", "cpu")
    monkeypatch.setattr(load, "fits_unpacked", lambda model: False)
    packed = load.load_base(folder, True, "float32", "cpu")
    kept = {n for n, one in packed.named_modules() if isinstance(one, Linear4bit)}
    assert kept == {name for name in names if name.endswith("down_proj")}  # 192 columns
    with torch.no_grad():
        wanted = exact(input_ids=ids).logits
        for model in (unpacked, packed):
            found = model(input_ids=ids).logits
            assert (found - wanted).norm() / wanted.norm() < 0.05


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads Linux's list of mappings")
@pytest.mark.parametrize("unpacked", [True, False])
def test_a_model_in_4_bits_leaves_its_checkpoint_unmapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpacked: bool
) -> None:
    folder = make_model(tmp_path / "model")  # its own: models of other tests map the shared one
    monkeypatch.setattr("edgetune.models.load.fits_unpacked", lambda model: unpacked)
    model = load.load_base(folder, True, "float32", "cpu")
    assert str(folder.resolve()) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == model.config.tie_word_embeddings
