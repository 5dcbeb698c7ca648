"""PiSSA (Meng et al. 2024, arXiv 2404.02948): an adapter that starts as the weights' main part.

W = W_res + s B₀ A₀ with the largest singular values in B₀ A₀ (equations 2 to 4). W_res is frozen
and B A trained; what was learned is s (B A - B₀ A₀), a LoRA of twice the rank over the base as it
was, and as such it is saved. Nothing that merges, exports or loads it has to repeat a
decomposition.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from edgetune.models.lineage import ADAPTER

_START = "pissa_start"  # attribute of a layer: A₀ and B₀, float32 on the CPU, in no state dict


def keep_start(model: Any) -> None:
    """Remember in each layer of a new PEFT model the factors that it begins with."""
    for module in model.modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            for name in module.lora_A:
                a, b = module.lora_A[name].weight, module.lora_B[name].weight
                setattr(module, _START, tuple(one.detach().cpu().float().clone() for one in (a, b)))


def subtract_start(model: Any, folder: Path) -> None:
    """Make of a saved PiSSA adapter a plain LoRA over the base as it was; no other is changed.

    Args:
        model: the PEFT model that was saved.
        folder: holds ``adapter_config.json`` and the weights.
    """
    starts = {
        name: getattr(module, _START)
        for name, module in model.named_modules()
        if hasattr(module, _START)
    }
    if not starts:
        return
    tensors = load_file(folder / ADAPTER)
    for module, (a, b) in starts.items():
        key = f"{module}.lora_A.weight"
        tensors[key] = torch.cat([tensors[key], a.to(tensors[key].dtype)], dim=0)
        key = f"{module}.lora_B.weight"
        tensors[key] = torch.cat([tensors[key], -b.to(tensors[key].dtype)], dim=1).contiguous()
    save_file(dict(sorted(tensors.items())), folder / ADAPTER, {"format": "pt"})
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    longer = math.sqrt(2) if config["use_rslora"] else 2  # the scale stays alpha / sqrt(r), / r
    config["init_lora_weights"] = True
    config["r"] *= 2
    config["lora_alpha"] *= longer
    config["rank_pattern"] = {name: 2 * rank for name, rank in config["rank_pattern"].items()}
    config["alpha_pattern"] = {
        name: longer * alpha for name, alpha in config["alpha_pattern"].items()
    }
    path.write_text(json.dumps(config), encoding="utf-8")
