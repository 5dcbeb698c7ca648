"""PEFT's own merge of a random adapter passes; the same merge with one thing wrong fails."""

from __future__ import annotations

import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.diagnose.test_injected_faults import verify
from tests.tiny_models import make_tiny_model

FAULTS = ("half the scale", "a layer dropped", "applied twice", "another base", "transposed")
Weights = dict[str, torch.Tensor]


def random_config(seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    key = draw.choice(every)
    config: dict[str, Any] = {
        "r": draw.choice([2, 4, 8]), "lora_alpha": draw.choice([4, 8, 16]),
        "target_modules": sorted({key, "o_proj", *draw.sample(every, 3)}),
        "use_rslora": draw.random() < 0.3, "use_dora": draw.random() < 0.3,
        "init_lora_weights": draw.choice([True, True, "gaussian", "pissa", "olora"]),
    }  # fmt: skip
    if draw.random() < 0.5:
        config["alpha_pattern"] = {draw.choice([key, rf"layers\.1\..*\.{key}"]): 64}
    if draw.random() < 0.4:
        config["rank_pattern"] = {key: 6}
    return config


def save_adapter_and_merge(base: Path, config: dict[str, Any], seed: int, out: Path) -> None:
    """Write ``adapter/`` and ``merged/`` by PEFT alone."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)

    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(load(), LoraConfig(**config))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(str(out / "adapter"))
        merged = PeftModel.from_pretrained(load(), str(out / "adapter")).merge_and_unload()
    shutil.copytree(base, out / "merged")
    merged.save_pretrained(str(out / "merged"))


def spoil(fault: str, base: Weights, merged: Weights, other: Weights) -> Weights:
    """Return the merged weights with one thing wrong."""
    tuned = [name for name in base if not torch.equal(base[name], merged[name])]
    change = {name: merged[name] - base[name] for name in tuned}
    if fault == "transposed":  # o_proj is square here, and always tuned
        name = next(name for name in tuned if "o_proj" in name)
        return {**merged, name: merged[name].T.contiguous()}
    if fault == "another base":
        return {name: other[name] + change.get(name, 0.0) for name in merged}
    times = {"half the scale": 0.5, "applied twice": 2.0}.get(fault, 0.0)
    wrong = [name for name in tuned if fault != "a layer dropped" or ".1." in name]
    return {**merged, **{name: base[name] + times * change[name] for name in wrong}}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_the_right_merge_passes_and_one_thing_wrong_fails(seed: int, tmp_path: Path) -> None:
    base = make_tiny_model("llama", tmp_path / "base", real_tokenizer=False)
    make_tiny_model("llama", tmp_path / "other", seed=7, real_tokenizer=False)
    save_adapter_and_merge(base, random_config(seed), seed, tmp_path)
    trained = f"{base}@original+{tmp_path / 'adapter'}"
    right = verify(trained, str(tmp_path / "merged"))
    assert right.ok, right.to_json()
    weights = [load_file(tmp_path / n / "model.safetensors") for n in ("base", "merged", "other")]
    fault = FAULTS[seed % len(FAULTS)]
    save_file(spoil(fault, *weights), tmp_path / "merged/model.safetensors", {"format": "pt"})
    wrong = verify(trained, str(tmp_path / "merged"))
    assert not wrong.ok and wrong.failing_check == "weights", (fault, wrong.to_json())
