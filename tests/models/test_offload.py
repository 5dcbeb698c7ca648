"""Models whose weights are read as they compute say what models in memory say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgetune.errors import InputError, Unsupported
from edgetune.models import checkpoint_tensors, offload
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.runtimes import logits_of, open_merged, open_runtime
from tests.tiny_models import make_tiny_model

SEQUENCES = [[5, 9, 11, 30, 44], [7, 8, 120], list(range(3, 60)), [9]]


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(checkpoint_tensors, "CHUNK_BYTES", 64)  # several a tensor


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2", "gpt2", "granite"])
def test_logits_are_those_of_the_model_in_memory(name: str, tmp_path: Path) -> None:
    folder = make_tiny_model(name, tmp_path / name, real_tokenizer=False)
    asked, held = open_merged(folder, 1), open_runtime(folder, 1)
    assert next(asked._model.parameters()).device.type == "meta"  # type: ignore[attr-defined]
    for ids, found in zip(SEQUENCES, logits_of(asked, SEQUENCES), strict=True):
        np.testing.assert_allclose(found, held.logits(ids), atol=2e-5)
    assert asked.tokenize("light") == held.tokenize("light")


def test_sixteen_bits_are_read_as_they_stand(tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "half"
    shutil.copytree(tiny_model, model)
    weights = load_file(model / "model.safetensors")
    half = {name: value.bfloat16() for name, value in weights.items()}
    save_file(half, model / "model.safetensors", {"format": "pt"})
    found = CheckpointTensors(model)
    assert set(found) == set(half) and len(found) == len(half)
    for name, value in half.items():
        assert torch.equal(found[name], value.float())


def test_a_small_model_is_held(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "IN_MEMORY_BYTES", 1 << 30)
    assert offload.open_offloaded(tiny_model) is None
    loaded = offload.load_or_offload(tiny_model)
    assert next(loaded.parameters()).device.type == "cpu"


def test_experts_that_the_model_stacks_are_held(tmp_path: Path) -> None:
    """On disk each expert has tensors of its own; the model has one for all."""
    folder = make_tiny_model("qwen2moe", tmp_path / "moe", real_tokenizer=False)
    assert offload.open_offloaded(folder) is None
    loaded, wanted = offload.load_or_offload(folder), load_model(ModelRef(folder))
    assert torch.equal(next(loaded.parameters()), next(wanted.parameters()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_names_what_is_not_finite(dtype: torch.dtype, value: str, tmp_path: Path) -> None:
    good = torch.tensor([[0.0, -1.5, torch.finfo(dtype).max]] * 50).to(dtype)
    save_file({"good": good}, tmp_path / "model.safetensors")
    CheckpointTensors(tmp_path).check_finite()
    bad = good.clone()
    bad[33, 1] = bad[2, 0] = float(value)
    save_file({"layer.weight": bad}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="2 of 150 weights are NaN or infinite") as error:
        CheckpointTensors(tmp_path).check_finite()
    assert "layer.weight" in str(error.value) and "model.safetensors" in str(error.value)


def test_refuses_weights_that_are_no_floats(tmp_path: Path) -> None:
    save_file({"packed": torch.ones(4, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    with pytest.raises(Unsupported, match="stored as U8"):
        CheckpointTensors(tmp_path)["packed"]
