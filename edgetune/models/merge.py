"""Fold a LoRA adapter into 16-bit weights: W + scale · B A, over the original or the NF4 base.

An adapter trained over NF4 weights learnt to correct them too, so it fits the dequantized base;
users expect the original one. Both are made here, one tensor at a time; the stage measures which is
closer to what was trained.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from edgetune.errors import InputError, Unsupported
from edgetune.models.source import read_json

_PREFIX = "base_model.model."
_UNSUPPORTED = (
    "use_dora",
    "alora_invocation_tokens",
    "trainable_token_indices",
    "layer_replication",
)
_TEXT_FILES = (".json", ".jinja", ".model", ".txt")


class Adapter:
    """A LoRA adapter's tensors and scale (Hu et al. 2021, arXiv 2106.09685, section 4.1).

    Raises:
        Unsupported: a variant that W + scale · B A does not describe.
    """

    def __init__(self, folder: Path) -> None:
        self.config = read_json(folder / "adapter_config.json", "a PEFT adapter has one")
        faulty = [key for key in _UNSUPPORTED if self.config.get(key)]
        if self.config.get("peft_type") != "LORA" or faulty:
            raise Unsupported(
                f"cannot fold this adapter: {', '.join(faulty) or self.config.get('peft_type')}",
                where=str(folder),
                hint="plain LoRA and rsLoRA can be merged",
            )
        self._pairs: dict[str, dict[str, torch.Tensor]] = {}
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no dict
                module, _, part = name.removeprefix(_PREFIX).rpartition(".lora_")
                if part not in ("A.weight", "B.weight"):
                    raise Unsupported(f"cannot fold the tensor '{name}'", where=str(folder))
                self._pairs.setdefault(module, {})[part[0]] = file.get_tensor(name).float()

    @property
    def modules(self) -> set[str]:
        """Names of the linear layers it tunes, as in the base's state dict."""
        return set(self._pairs)

    def delta(self, module: str) -> torch.Tensor:
        """Return scale · B A, float32, [out, in] (transposed for GPT-2's Conv1D)."""
        a, b = self._pairs[module]["A"], self._pairs[module]["B"]
        rank = a.shape[0]
        alpha = self.config["alpha_pattern"].get(module, self.config["lora_alpha"])
        scale = alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)
        update = scale * (b @ a)
        return update.T if self.config.get("fan_in_fan_out") else update


def through_nf4(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``weight`` as QLoRA training saw it: NF4, double quantization, dequantized (float32).

    ``dtype`` is the compute dtype of the training, in which the weights were loaded and are
    dequantized.
    """
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(
        weight.to(dtype).contiguous(), quant_type="nf4", compress_statistics=True
    )
    return dequantize_4bit(packed, state).float()


def write_merged(
    base: Path,
    adapter: Path | None,
    out: Path,
    dtype: str,
    nf4_dtype: str | None = None,
) -> list[str]:
    """Write ``base`` with ``adapter`` folded in as a Hugging Face folder.

    Args:
        base: model folder.
        adapter: PEFT folder; none only casts the weights.
        out: new folder; shards keep their names.
        dtype: of the weights on disk.
        nf4_dtype: fold over the NF4-dequantized base of a training in this compute dtype; none
            folds over the original.

    Returns:
        The names of the folded weights.

    Raises:
        InputError: the adapter tunes a layer that the base does not have.
    """
    lora = Adapter(adapter) if adapter else None
    missing = set(lora.modules) if lora else set()
    out.mkdir(parents=True, exist_ok=True)
    target = getattr(torch, dtype)
    folded: list[str] = []
    for shard in sorted(base.glob("*.safetensors")):
        tensors: dict[str, torch.Tensor] = {}
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no dict
                weight = file.get_tensor(name)
                module = name.removesuffix(".weight")
                if lora and module in lora.modules:
                    start = weight.float()
                    if nf4_dtype:
                        start = through_nf4(weight, getattr(torch, nf4_dtype))
                    weight = start + lora.delta(module)
                    missing.discard(module)
                    folded.append(name)
                tensors[name] = weight.to(target) if weight.is_floating_point() else weight
        save_file(tensors, out / shard.name, metadata={"format": "pt"})
    if missing:
        raise InputError(
            f"the adapter tunes '{sorted(missing)[0]}', which this base does not have",
            where=str(adapter),
            hint="use the base the adapter was trained on",
        )
    copy_description(base, out, dtype)
    return folded


def name_stop_ids(folder: Path, stop_ids: Sequence[int]) -> None:
    """Write into ``generation_config.json`` that generation ends where training's answers did.

    The base's own EOS may be another token; a client that reads only this file would never stop.
    """
    path = folder / "generation_config.json"
    config = read_json(path, "") if path.is_file() else {}
    config["eos_token_id"] = list(stop_ids) if len(stop_ids) > 1 else stop_ids[0]
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def copy_description(base: Path, out: Path, dtype: str) -> None:
    """Copy everything but weights, and name the dtype in the configuration."""
    for path in base.iterdir():
        if path.is_file() and path.suffix in _TEXT_FILES:
            shutil.copy(path, out / path.name)
    config: dict[str, Any] = read_json(out / "config.json", "")
    config.pop("torch_dtype", None)
    config.pop("quantization_config", None)
    config["dtype"] = dtype
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
