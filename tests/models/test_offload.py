"""Models whose weights are read as they compute say what models in memory say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from edgetune.errors import InputError, Unsupported
from edgetune.models import checkpoint_tensors, offload
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.load import load_base, load_model
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from edgetune.runtimes import (
    logits_at,
    logits_of,
    open_exact_merge,
    open_merged,
    open_runtime,
    open_trained,
)
from tests.models.test_merge import random_adapter
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


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2", "gpt2", "granite"])
@pytest.mark.parametrize("nf4", [True, False])
def test_base_with_adapter_is_computed_as_in_memory(name: str, nf4: bool, tmp_path: Path) -> None:
    folder = make_tiny_model(name, tmp_path / name, real_tokenizer=False)
    adapter = random_adapter(folder, tmp_path / "adapter", nf4)
    ref = ModelRef(folder, adapter, nf4, "bfloat16" if nf4 else "float32")
    asked, held, base = open_trained(ref, 1), open_runtime(ref, 1), open_runtime(folder, 1)
    assert next(asked._model.parameters()).device.type == "meta"  # type: ignore[attr-defined]
    for ids, found in zip(SEQUENCES, logits_of(asked, SEQUENCES), strict=True):
        np.testing.assert_allclose(found, held.logits(ids), atol=2e-5)
        assert np.abs(found - base.logits(ids)).max() > 0.01, "the adapter did nothing"


@pytest.mark.parametrize("nf4", [True, False])
def test_a_merge_is_computed_before_it_is_written(
    tiny_model: Path, nf4: bool, tmp_path: Path
) -> None:
    adapter, nf4_dtype = (
        random_adapter(tiny_model, tmp_path / "a", nf4),
        "bfloat16" if nf4 else None,
    )
    write_merged(tiny_model, [adapter], tmp_path / "merged", "float32", nf4_dtype)
    asked = open_exact_merge(tiny_model, [adapter], nf4_dtype, 1)
    assert asked is not None
    held = open_runtime(tmp_path / "merged", 1)
    for ids, found in zip(SEQUENCES, logits_of(asked, SEQUENCES), strict=True):
        np.testing.assert_allclose(found, held.logits(ids), atol=2e-5)


@pytest.mark.parametrize("config", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_that_needs_the_base_is_held(
    config: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    model = get_peft_model(
        load_base(tiny_model, False, "float32", "cpu"),
        LoraConfig(r=2, target_modules=["q_proj"], **config),
    )
    model.save_pretrained(tmp_path / "a")
    ref = ModelRef(tiny_model, tmp_path / "a")
    assert offload.open_trained_offloaded(ref) is None
    assert np.isfinite(open_trained(ref, 1).logits([5, 9])).all()


def test_logits_at_positions_are_rows_of_all(tiny_model: Path) -> None:
    positions = [[0, 3], [2], list(range(10, 57)), [0]]
    held = open_runtime(tiny_model, 1)
    wanted = np.concatenate(
        [held.logits(ids)[at] for ids, at in zip(SEQUENCES, positions, strict=True)]
    )
    for asked in (open_merged(tiny_model, 1), held):
        for _ in range(2):  # once more, of hidden states that were kept
            found = np.concatenate(list(logits_at(asked, SEQUENCES, positions)))
            np.testing.assert_allclose(found, wanted, atol=2e-5)


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
