"""Tiny random models of all families: two layers, narrow, with each family's own oddities.

Real tokenizers come from the assets folder where it is there; elsewhere a small one of the same
kind (byte-level BPE, or SentencePiece with byte fallback) is used.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.embedded import locate
from edgetune.export.gguf.vocab import PRE_TOKENIZERS
from tests.conftest import make_tokenizer

_SIZES: dict[str, Any] = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "initializer_range": 0.1,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A family: transformers' class names, what its configuration adds, its kind of tokenizer."""

    config: str
    model: str
    extra: dict[str, Any]
    tokenizer: str  # "bpe", "spm", or the name of one in the assets, with its kind behind a colon


FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaConfig", "LlamaForCausalLM", {"head_dim": 16}, "bpe"),
    # llama.cpp and ONNX Runtime know no window of this family: theirs is the whole context.
    "mistral": Family("MistralConfig", "MistralForCausalLM", {"sliding_window": 512}, "spm"),
    "qwen2": Family(
        "Qwen2Config", "Qwen2ForCausalLM", {"tie_word_embeddings": True}, "qwen2.5:qwen"
    ),
    "qwen3": Family(
        "Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 32, "tie_word_embeddings": True},
        "qwen",
    ),
    "smollm3": Family(
        "SmolLM3Config", "SmolLM3ForCausalLM",
        {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0], "tie_word_embeddings": True},
        "bpe",
    ),
    "phi3": Family(
        "Phi3Config", "Phi3ForCausalLM",
        {"sliding_window": None, "original_max_position_embeddings": 512}, "phi-3-mini:phi",
    ),
    "gemma2": Family(
        "Gemma2Config", "Gemma2ForCausalLM",
        {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 64}, "spm",
    ),
    "gemma3": Family(
        "Gemma3TextConfig", "Gemma3ForCausalLM",
        {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 64}, "spm",
    ),
    "gpt2": Family("GPT2Config", "GPT2LMHeadModel", {}, "gpt2:bpe"),
    "granite": Family(
        "GraniteConfig", "GraniteForCausalLM",
        {"embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.6,
         "logits_scaling": 2.0, "tie_word_embeddings": True}, "bpe",
    ),
    "olmo2": Family("Olmo2Config", "Olmo2ForCausalLM", {}, "bpe"),
}  # fmt: skip
#: Mixtures of experts, whose weights the model stacks; ONNX Runtime's builder is not asked of them.
MIXTURES: dict[str, Family] = {
    "qwen2moe": Family(
        "Qwen2MoeConfig", "Qwen2MoeForCausalLM",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
         "shared_expert_intermediate_size": 64}, "qwen",
    ),
    "mixtral": Family(
        "MixtralConfig", "MixtralForCausalLM",
        {"num_local_experts": 4, "num_experts_per_tok": 2}, "bpe",
    ),
}  # fmt: skip


def make_tiny_model(
    name: str, folder: Path, seed: int = 0, width: int = 64, real_tokenizer: bool = True
) -> Path:
    """Save a random model of a family as a Hugging Face folder, ``width`` being its hidden size."""
    import torch
    import transformers

    family = (FAMILIES | MIXTURES)[name]
    folder.mkdir(parents=True)
    put_tokenizer(family.tokenizer if real_tokenizer else family.tokenizer.split(":")[-1], folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sizes = {**_SIZES, "hidden_size": width, "intermediate_size": 2 * width}
    if name == "gpt2":
        sizes = {"n_embd": width, "n_layer": 2, "n_head": 4, "n_positions": 512}
        sizes["initializer_range"] = 0.1
    config = getattr(transformers, family.config)(
        vocab_size=len(tokenizer),
        **{**sizes, **family.extra},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = getattr(transformers, family.model)(config)
    with torch.no_grad():  # norms away from one, so that one left out would show
        for key, parameter in model.named_parameters():
            if "norm" in key or "ln_" in key:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    return folder


def make_adapter(
    base: Path, folder: Path, seed: int = 1, settings: dict[str, Any] | None = None, **config: Any
) -> Path:
    """Save a LoRA adapter over ``base`` whose update is large enough to matter.

    Args:
        base: model folder.
        folder: new folder.
        seed: of the adapter.
        settings: of ``tune``; all that they train is moved then.
        config: put into ``adapter_config.json``.
    """
    import torch

    from edgetune.models.adapters import add_adapter, save_adapter
    from edgetune.models.load import load_base
    from edgetune.recipe import TuneSection

    section = TuneSection(**{"rank": 4, "method": "lora", **(settings or {})})
    model = add_adapter(load_base(base, False, "float32", "cpu"), section, seed=seed)
    torch.manual_seed(seed)
    for key, parameter in model.named_parameters():
        if settings is not None and parameter.requires_grad:
            parameter.data += 0.03 * torch.randn_like(parameter)
        elif "lora_B" in key:
            parameter.data.normal_(std=0.05)
    save_adapter(model, folder)
    if config:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def put_tokenizer(name: str, folder: Path) -> None:
    asset, _, kind = name.rpartition(":")
    assets = Path(os.environ.get("EDGETUNE_ASSETS", "../shared/assets")) / "tokenizers" / asset
    if asset and assets.is_dir():
        for file in assets.iterdir():
            if file.suffix == ".gz":
                (folder / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
            elif file.name != "SOURCE.txt":
                shutil.copyfile(file, folder / file.name)
        if asset == "gpt2":
            _make_fast(folder)
        return
    makers: dict[str, Callable[[Path], None]] = {
        "bpe": make_tokenizer, "qwen": _make_qwen, "spm": make_sentencepiece,
        "phi": lambda folder: make_sentencepiece(folder, strip_end=True),
    }  # fmt: skip
    makers[kind](folder)


def _make_qwen(folder: Path) -> None:
    """Save a small byte-level BPE that splits as Qwen's: transformers' class insists on that."""
    make_tokenizer(folder)
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text())
    regex = next(regex for regex, name in PRE_TOKENIZERS.items() if name == "qwen2")
    state["normalizer"] = {"type": "NFC"}
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    level = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False,
    }  # fmt: skip
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, level]}
    path.write_text(json.dumps(state))


def _make_fast(folder: Path) -> None:
    """Write ``tokenizer.json`` of a vocabulary and its merges, with a plain chat template."""
    from transformers import GPT2Tokenizer

    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)


def make_sentencepiece(folder: Path, size: int = 600, strip_end: bool = False) -> None:
    """Save a SentencePiece-like BPE with byte fallback and a Llama 2 style template.

    With ``strip_end`` spaces behind the end token belong to it, as Phi-3 has it.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    # llama.cpp looks for the last one in every model whose name has "phi3" in it.
    specials = ["<unk>", "<s>", "</s>", "<|endoftext|>"]
    raw = [f"<0x{byte:02X}>" for byte in range(256)]
    learnt = Tokenizer(models.BPE())
    learnt.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(raw), special_tokens=specials, show_progress=False
    )
    rows = (locate("devices") / "validation.jsonl").read_text().splitlines()[:200]
    learnt.train_from_iterator(rows, trainer)
    state = json.loads(learnt.to_str())["model"]
    words = [*specials, *raw]
    words += [word for word in state["vocab"] if word not in specials]
    whole = Tokenizer(
        models.BPE(
            vocab={word: i for i, word in enumerate(words)},
            merges=[tuple(pair) for pair in state["merges"]],
            unk_token="<unk>", fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    whole.normalizer = normalizers.Replace(" ", "▁")
    whole.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=whole, unk_token="<unk>", bos_token="<s>",
        eos_token=AddedToken("</s>", rstrip=strip_end, special=True, normalized=False),
        pad_token=AddedToken("</s>", rstrip=strip_end, special=True, normalized=False),
    )  # fmt: skip
    fast.chat_template = (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
        "{{ message['content'] + eos_token }}{% else %}"
        "{{ raise_exception('no such role') }}{% endif %}{% endfor %}"
    )
    fast.save_pretrained(folder)
