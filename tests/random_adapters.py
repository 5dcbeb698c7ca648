"""Random PEFT configurations over five families, every trained tensor moved from where it began."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import make_tokenizer

_SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
}  # fmt: skip
#: Family to its configuration's class and settings, attention and MLP layers, layers' list.
FAMILIES: dict[str, tuple[str, dict[str, Any], tuple[str, ...], tuple[str, ...], str]] = {
    "llama": ("LlamaConfig", _SIZES, ("q_proj", "k_proj", "v_proj", "o_proj"),
              ("gate_proj", "up_proj", "down_proj"), "layers"),
    "qwen2": ("Qwen2Config", _SIZES, ("q_proj", "k_proj", "v_proj", "o_proj"),
              ("gate_proj", "up_proj", "down_proj"), "layers"),
    "gemma2": ("Gemma2Config", _SIZES, ("q_proj", "k_proj", "v_proj", "o_proj"),
               ("gate_proj", "up_proj", "down_proj"), "layers"),
    "phi3": ("Phi3Config", _SIZES, ("qkv_proj", "o_proj"), ("gate_up_proj", "down_proj"),
             "layers"),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128,
             "initializer_range": 0.1}, ("c_attn",), ("c_fc", "c_proj"), "h"),
}  # fmt: skip


@dataclass(frozen=True)
class RandomAdapter:
    """An adapter and the base it was made over."""

    base: Path
    folder: Path
    family: str
    tied: bool
    config: dict[str, Any]


def make_base(folder: Path, family: str, tied: bool) -> Path:
    """Save a tiny random model of a family, its norms and biases away from where they begin."""
    import torch
    import transformers

    make_tokenizer(folder)
    name, sizes, *_ = FAMILIES[family]
    wide = {} if family == "gpt2" else {"initializer_range": 0.1}
    config = getattr(transformers, name)(
        vocab_size=400, **sizes, **wide, tie_word_embeddings=tied,
        bos_token_id=0, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(11)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" in key or "ln_" in key or key.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def random_config(seed: int, family: str) -> dict[str, Any]:
    """Return settings of a ``LoraConfig``: patterns, variants, biases, targets, starts."""
    draw = random.Random(seed)
    _, _, attention, mlp, layers = FAMILIES[family]
    head, embedding = ("lm_head", "wte") if family == "gpt2" else ("lm_head", "embed_tokens")
    every = [*attention, *mlp]
    targets = draw.sample(every, draw.randint(1, len(every)))
    config: dict[str, Any] = {"r": draw.choice([2, 4, 8]), "lora_alpha": draw.choice([4, 8, 16])}
    if draw.random() < 0.25:
        targets.append(draw.choice([head, embedding]))
    if draw.random() < 0.3:
        config["use_rslora"] = True
    if draw.random() < 0.3:
        config["use_dora"] = True
    key = draw.choice(targets)
    patterns = [key, rf"{layers}\.[01]\..*\.{key}", rf".*\.{layers}\.1\..*", "nothing_of_the_kind"]
    if draw.random() < 0.5:
        config["alpha_pattern"] = {draw.choice(patterns): draw.choice([2, 32]), key: 64}
    if draw.random() < 0.4:
        config["rank_pattern"] = {draw.choice(patterns): draw.choice([2, 6])}
    config["bias"] = draw.choice(["none", "none", "none", "all", "lora_only"])
    if not config.get("use_dora") and embedding not in targets and draw.random() < 0.15:
        config["lora_bias"] = True
    if draw.random() < 0.2 and head not in targets and embedding not in targets:
        config |= {"layers_to_transform": [draw.choice([0, 1])], "layers_pattern": layers}
    plain = [True, True, True, "gaussian", "eva", "orthogonal"]
    starts = [*plain, *plain, "pissa", "pissa", "pissa", "olora", "olora", "pissa_niter_2"]
    config["init_lora_weights"] = True if "lora_bias" in config else draw.choice(starts)
    saved = [[head], [embedding], [head, embedding], ["ln_1" if family == "gpt2" else "norm"]]
    free = [one for one in saved if not set(one) & set(targets)]
    if free and draw.random() < 0.3:
        config["modules_to_save"] = draw.choice(free)
    elif embedding not in targets and draw.random() < 0.15:
        config["trainable_token_indices"] = [3, 7, 20]
    if draw.random() < 0.2 and not config.get("use_dora"):
        config["ensure_weight_tying"] = True
    return {**config, "target_modules": targets}


def make_random(seed: int, bases: dict[tuple[str, bool], Path], folder: Path) -> RandomAdapter:
    """Save the adapter of a seed.

    Args:
        seed: of everything.
        bases: family and tied to the base's folder.
        folder: new folder.

    Raises:
        ValueError: PEFT itself does not take this configuration.
    """
    family, tied = sorted(bases)[seed % len(bases)]
    config = random_config(seed, family)
    save_adapter(bases[family, tied], folder, config, seed)
    return RandomAdapter(bases[family, tied], folder, family, tied, config)


def save_adapter(base: Path, folder: Path, config: dict[str, Any], seed: int) -> None:
    """Save the adapter that PEFT makes of a configuration, moved from where it began."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        model = get_peft_model(model, LoraConfig(**config))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(str(folder))
