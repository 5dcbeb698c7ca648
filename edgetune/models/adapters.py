"""Add LoRA adapters to a model and save them; with :mod:`edgetune.models.load` the door to PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from edgetune.recipe import Training


def add_adapter(model: PreTrainedModel, section: Training, seed: int) -> PeftModel:
    """Put LoRA on all linear layers but the head (Hu et al. 2021, arXiv 2106.09685).

    The seed fixes the adapter's initial weights.
    """
    import torch

    torch.manual_seed(seed)
    config = LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )
    if section.gradient_checkpointing:
        model.enable_input_require_grads()
    return get_peft_model(model, config)


def save_adapter(model: Any, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` (float32)."""
    model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's card has nothing to say yet


def restore_adapter(model: Any, folder: Path) -> None:
    """Load adapter weights saved from the same model back into it."""
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
