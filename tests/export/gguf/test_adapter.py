"""The adapter alone: llama.cpp with base + file says what torch says with base + adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from edgetune.errors import InputError, Unsupported
from edgetune.export.gguf import adapter as gguf_adapter
from edgetune.export.gguf.adapter import write_gguf_adapter
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.measure.quality import log_softmax
from edgetune.models.lineage import lineage_of, stamp_adapter
from edgetune.models.ref import ModelRef
from edgetune.runtimes import find_opener, open_runtime
from tests.conftest import make_model
from tests.tiny_models import make_adapter, make_tiny_model

IDS = [5 + 7 * n % 250 for n in range(48)]


def log_probs(model: Any, **settings: Any) -> np.ndarray:
    opener: Any = find_opener(model)
    runtime = opener(1, "cpu", **settings)
    try:
        return log_softmax(runtime.logits(IDS))
    finally:
        runtime.close()


def kl(one: np.ndarray, other: np.ndarray) -> float:
    return float((np.exp(one) * (one - other)).sum(axis=-1).mean())


def distances(base: Path, adapter: Path, folder: Path) -> tuple[float, float]:
    """KL of base + file in llama.cpp, and of the base alone, to base + adapter in torch."""
    plain, file = folder / "base.gguf", folder / "adapter.gguf"
    convert_gguf(base, plain, GgufHeader("base"))
    write_gguf_adapter(base, adapter, file, "tiny")
    wanted = log_probs(ModelRef(base, adapter))
    return kl(wanted, log_probs(plain, adapter=file)), kl(wanted, log_probs(plain))


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gemma2", "granite", "olmo2", "gpt2"])
def test_is_the_adapter(family: str, tmp_path: Path) -> None:
    base = make_tiny_model(family, tmp_path / "base", real_tokenizer=False)
    if family == "gpt2":  # the converter asks for a key that transformers no longer writes
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps({**config, "n_ctx": 512}))
    near, without = distances(base, make_adapter(base, tmp_path / "adapter"), tmp_path)
    assert near <= 1e-5
    assert without > 1e-2, "the adapter did nothing"


@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True},
        {"lora_alpha": 3},
        {"alpha_pattern": {"model.layers.0.self_attn.q_proj": 50}},
    ],
)
def test_scales(config: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_model, tmp_path / "adapter", **config)
    near, without = distances(tiny_model, adapter, tmp_path)
    assert near <= 1e-5 and without > 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        {"init": "pissa"},
        {"init": "pissa", "rslora": True, "rank_pattern": {"q_proj": 2, "layers.1.*": 6}},
    ],
    ids=["pissa", "patterns"],
)
def test_settings_of_the_recipe(settings: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_model, tmp_path / "adapter", settings=settings)
    near, without = distances(tiny_model, adapter, tmp_path)
    assert near <= 1e-5 and without > 1e-3


@pytest.mark.parametrize("end", ["lm_head", "embed_tokens"])
def test_a_head_of_its_own_is_tuned_and_a_tied_one_refused(end: str, tmp_path: Path) -> None:
    settings = {"target_modules": ["v_proj", end], "alpha_pattern": {end: 5.0}}
    for family in ("llama", "qwen2"):
        base = make_tiny_model(family, tmp_path / family, real_tokenizer=False)
        adapter = make_adapter(base, tmp_path / f"{family}-adapter", settings=settings)
        if family == "llama":
            near, without = distances(base, adapter, tmp_path)
            assert near <= 1e-5 and without > 1e-3
        else:
            with pytest.raises(Unsupported, match="one tensor with the other end"):
                write_gguf_adapter(base, adapter, tmp_path / "a.gguf", "x")


def test_rows_in_another_order_would_show(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the proof is for: without Llama's permutation the same test fails by far."""

    def keep(converter: Any, module: str, left: Any, right: Any) -> tuple[str, Any, Any]:
        return converter.map_tensor_name(f"{module}.weight"), left, right

    monkeypatch.setattr(gguf_adapter, "_convert", keep)
    near, _ = distances(tiny_model, make_adapter(tiny_model, tmp_path / "adapter"), tmp_path)
    assert near > 1e-3


def test_the_file_states_its_type_and_base(tiny_model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    stamp_adapter(adapter, tiny_model)
    assert write_gguf_adapter(tiny_model, adapter, tmp_path / "a.gguf", "my lights") == 14
    reader = GGUFReader(tmp_path / "a.gguf")
    fields = {key: field.contents() for key, field in reader.fields.items()}
    assert fields["general.type"] == "adapter"
    assert fields["general.architecture"] == "llama"
    assert fields["general.name"] == "my lights"
    assert (fields["adapter.type"], fields["adapter.lora.alpha"]) == ("lora", 32.0)
    assert fields["edgetune.base.lineage"] == lineage_of(tiny_model)
    shapes = {tensor.name: tuple(tensor.shape) for tensor in reader.tensors}
    assert shapes["blk.1.attn_k.weight.lora_a"] == (64, 4)  # innermost first, as ggml says it
    assert shapes["blk.1.attn_k.weight.lora_b"] == (4, 32)
    assert len(shapes) == 28


def test_adapters_that_a_lora_file_cannot_hold_are_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    adapter = make_adapter(tiny_model, tmp_path / "dora", use_dora=True)
    with pytest.raises(Unsupported, match="DoRA"):
        write_gguf_adapter(tiny_model, adapter, tmp_path / "a.gguf", "x")
    whole = make_adapter(tiny_model, tmp_path / "whole")
    file = whole / "adapter_model.safetensors"
    tensors = load_file(file)
    norm = load_file(tiny_model / "model.safetensors")["model.norm.weight"]
    save_file({**tensors, "base_model.model.model.norm.weight": norm}, file)
    with pytest.raises(Unsupported, match=r"'model\.norm\.weight' was trained whole"):
        write_gguf_adapter(tiny_model, whole, tmp_path / "a.gguf", "x")
    odd = make_adapter(tiny_model, tmp_path / "odd")
    file = odd / "adapter_model.safetensors"
    renamed = {key.replace("up_proj", "side_proj"): tensor for key, tensor in tensors.items()}
    save_file(renamed, file)
    with pytest.raises(Unsupported, match=r"side_proj\.weight' has no place in a GGUF file"):
        write_gguf_adapter(tiny_model, odd, tmp_path / "a.gguf", "x")
    assert not (tmp_path / "a.gguf").exists()


def test_refuses_an_adapter_of_another_base(tiny_model: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", seed=3)
    adapter = make_adapter(other, tmp_path / "adapter")
    stamp_adapter(adapter, other)
    with pytest.raises(InputError, match="trained on another base"):
        write_gguf_adapter(tiny_model, adapter, tmp_path / "a.gguf", "x")


def test_a_broken_file_is_refused_before_llama_cpp(tiny_model: Path, tmp_path: Path) -> None:
    convert_gguf(tiny_model, tmp_path / "base.gguf", GgufHeader("base"))
    (tmp_path / "a.gguf").write_bytes(b"GGUF no more")
    opener: Any = find_opener(tmp_path / "base.gguf")
    with pytest.raises(InputError, match="broken GGUF"):
        opener(1, "cpu", adapter=tmp_path / "a.gguf")
    with pytest.raises(InputError, match="cannot load this adapter"):
        opener(1, "cpu", adapter=tmp_path / "base.gguf")
    open_runtime(tmp_path / "base.gguf", 1).close()
