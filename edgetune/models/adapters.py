"""Add LoRA adapters to a model and save them; with :mod:`edgetune.models.load` the door to PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from edgetune.models.fused_lora import fuse_lora
from edgetune.models.fused_norm import fuse_norms
from edgetune.recipe import Training


def add_adapter(model: PreTrainedModel, section: Training, seed: int) -> PeftModel:
    """Put LoRA on all linear layers but the head (Hu et al. 2021, arXiv 2106.09685).

    The seed fixes the adapter's initial weights. Its layers are computed by
    :mod:`edgetune.models.fused_lora` and :mod:`edgetune.models.fused_norm`, which changes rounding
    and nothing else.
    """
    torch.manual_seed(seed)
    config = LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,  # type: ignore[arg-type]  # PEFT divides by it, whole or not
        lora_dropout=section.dropout,
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )
    if section.gradient_checkpointing:
        model.enable_input_require_grads()
    adapted = get_peft_model(model, config)
    fuse_lora(adapted)
    fuse_norms(adapted)
    return adapted


def save_adapter(model: Any, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` (float32).

    The names of modules are sorted. PEFT writes them in the order of a set, which is another one in
    each process: equal adapters would differ in bytes, and so would the key of a teacher's cache.
    """
    model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's card has nothing to say yet
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in ("exclude_modules", "target_modules"):
        if isinstance(config.get(name), list):
            config[name].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def restore_adapter(model: Any, folder: Path) -> None:
    """Load adapter weights saved from the same model back into it."""
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))


def fold_float32(model: Any) -> Any:
    """Return ``model`` with its adapter merged into its weights, if all of those are float32.

    What it computes moves by float32 rounding alone, and a forward pass takes a third less time.
    Packed or half precision weights would be rounded by it, so such a model is returned as it is.
    """
    if not isinstance(model, PeftModel):
        return model
    weights = [parameter for name, parameter in model.named_parameters() if "lora_" not in name]
    if any(weight.dtype != torch.float32 for weight in weights):
        return model
    return model.merge_and_unload()
