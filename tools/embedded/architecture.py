"""The embedded model: its configuration, and how a shallow one grows to full depth."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tools.embedded import tokenizer

SEED = 20261
LAYERS = 11


def build_model(layers: int = LAYERS) -> LlamaForCausalLM:
    """The untrained model, float32, embeddings tied; 9.7 million parameters at full depth."""
    torch.manual_seed(SEED)
    settings: dict[str, Any] = {
        "vocab_size": tokenizer.VOCAB_SIZE,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 1024,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.04,
        "attn_implementation": "sdpa",
    }
    model = LlamaForCausalLM(LlamaConfig(**settings))
    # GPT-2's rule: what adds to the residual stream starts smaller, by the root of its length.
    for layer in model.model.layers:
        for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
            torch.nn.init.normal_(linear.weight, std=0.04 / math.sqrt(2 * LAYERS))
    return model


def copied_from(first: int) -> list[int]:
    """The layer of a model of ``first`` layers that each layer of the full depth begins as."""
    return [index * first // LAYERS for index in range(LAYERS)]


def pick_cut(first: int) -> list[int]:
    """The layers of the full depth that compute what the ``first`` ones did before it grew."""
    sources = copied_from(first)
    return [sources.index(layer) for layer in range(first)]


def grow_model(shallow: LlamaForCausalLM) -> LlamaForCausalLM:
    """The full-depth model that computes just what the shallow one does.

    Copies of a trained layer are put behind it with their output projections at zero (block
    expansion, arXiv:2401.02415, section 3.2). On two cores the shallow start sees more than twice
    the tokens a second.
    """
    model = build_model()
    first = len(shallow.model.layers)
    sources = copied_from(first)
    state = shallow.state_dict()
    model.load_state_dict({k: v for k, v in state.items() if ".layers." not in k}, strict=False)
    for index, source in enumerate(sources):
        layer = model.model.layers[index]
        layer.load_state_dict(shallow.model.layers[source].state_dict())
        if index and sources[index - 1] == source:
            torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
            torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return model
