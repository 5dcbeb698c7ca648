"""Add LoRA adapters to a model and save them; with :mod:`edgetune.models.load` the door to PEFT."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import ModulesToSaveWrapper
from transformers import PreTrainedModel

from edgetune.models.adapter_modules import check_modules, ends_with, find_targets, match_patterns
from edgetune.models.fused_lora import fuse_lora
from edgetune.models.fused_norm import fuse_norms
from edgetune.models.load import put_adapter_on
from edgetune.models.pissa import keep_start, subtract_start
from edgetune.models.ref import ModelRef
from edgetune.recipe import Training


def add_adapter(
    model: PreTrainedModel,
    section: Training,
    seed: int,
    ranks: Mapping[str, int] | None = None,
    where: str = "tune",
) -> PeftModel:
    """Put LoRA on the layers that the section names (Hu et al. 2021, arXiv 2106.09685).

    rsLoRA: Kalajdzievski 2023, arXiv 2312.03732; DoRA: Liu et al. 2024, arXiv 2402.09353; PiSSA:
    :mod:`edgetune.models.pissa`. The seed fixes the adapter's initial weights. Plain layers are
    computed by :mod:`edgetune.models.fused_lora` and :mod:`edgetune.models.fused_norm`, which
    changes rounding and nothing else.

    Args:
        model: the base.
        section: settings of the adapter.
        seed: of its initial weights.
        ranks: of each layer by name, which ``rank: auto`` found; layers that are not in it get
            no adapter. Without it every layer has :attr:`AdapterSettings.uniform_rank`.
        where: the section's name, for errors.

    Raises:
        InputError: a module that the model does not have.
    """
    check_modules(model, section, where)
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # PEFT itself makes no plain LoRA of PiSSA with patterns; `subtract_start` does.
        warnings.filterwarnings("ignore", message="Using Rank-Stabilized LoRA")
        adapted = get_peft_model(model, _config(model, section, ranks))
    if section.gradient_checkpointing:
        model.enable_input_require_grads()
    if section.init == "pissa":
        keep_start(adapted)
    _compute_in_float32(adapted)
    fuse_lora(adapted)
    fuse_norms(adapted)
    return adapted


def _config(
    model: PreTrainedModel, section: Training, ranks: Mapping[str, int] | None
) -> LoraConfig:
    """Return PEFT's configuration.

    Patterns and ends of names are written out for the model's modules. PEFT takes the first
    pattern that fits and sorts them when it saves: loaded again, another could be the first.
    """
    targets, rank = section.target_modules, section.uniform_rank
    if ranks is None:
        names = find_targets(model, section)
        rank_pattern = match_patterns(section.rank_pattern, names)
        alpha_pattern = match_patterns(section.alpha_pattern, names)
    else:
        targets = sorted(name for name, own in ranks.items() if own)
        rank_pattern = {name: own for name in targets if (own := ranks[name]) != rank}
        shares = {name: own / rank for name, own in rank_pattern.items()}
        alpha_pattern = {  # the same scale in every layer
            name: section.alpha * (share**0.5 if section.rslora else share)
            for name, share in shares.items()
        }
    ends = section.modules_to_save
    saved = [n for n, _ in model.named_modules() if any(ends_with(n, end) for end in ends)]
    return LoraConfig(
        r=rank,
        lora_alpha=section.alpha,  # type: ignore[arg-type]  # PEFT divides by it, whole or not
        lora_dropout=section.dropout,
        target_modules=targets,
        rank_pattern=rank_pattern,
        alpha_pattern=alpha_pattern,
        use_rslora=section.rslora,
        use_dora=section.dora,
        init_lora_weights="pissa" if section.init == "pissa" else True,
        modules_to_save=saved or None,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _compute_in_float32(model: Any) -> bool:
    """Let modules that are trained whole, in float32, take and give the dtype of their model.

    The head gives float32, in which losses are computed.

    Returns:
        Whether there are any.
    """
    wrappers = [one for one in model.modules() if isinstance(one, ModulesToSaveWrapper)]
    for wrapper in wrappers:
        _widen(wrapper, wrapper is model.get_output_embeddings())
    return bool(wrappers)


def _widen(wrapper: Any, is_head: bool) -> None:
    (name,) = wrapper.modules_to_save
    own = wrapper.modules_to_save[name].float()
    dtype = next(wrapper.original_module.parameters()).dtype
    if dtype == torch.float32:
        return

    def widen(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            one.float() if isinstance(one, torch.Tensor) and one.is_floating_point() else one
            for one in inputs
        )

    def narrow(_: torch.nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        return output.to(dtype)

    own.register_forward_pre_hook(widen)
    if not is_head:
        own.register_forward_hook(narrow)


def continue_adapter(model: PreTrainedModel, start: ModelRef, section: Training) -> Any:
    """Put the adapter of an earlier training on its base, to be trained further.

    Raises:
        InputError: an adapter of another base.
    """
    if section.gradient_checkpointing:
        model.enable_input_require_grads()
    adapted = put_adapter_on(model, start, trainable=True)
    if _compute_in_float32(adapted):  # PEFT rounded them to the base's dtype as it loaded them
        assert start.adapter is not None
        restore_adapter(adapted, start.adapter)
    fuse_lora(adapted)
    fuse_norms(adapted)
    return adapted


def save_adapter(model: Any, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` (float32).

    An adapter of PiSSA is saved as a plain one (:mod:`edgetune.models.pissa`).

    The names of modules are sorted. PEFT writes them in the order of a set, which is another one in
    each process: equal adapters would differ in bytes, and so would the key of a teacher's cache.
    """
    # Embedding and head are the base's own, unless they are in modules_to_save.
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    subtract_start(model, folder)
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
