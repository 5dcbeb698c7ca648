"""The end of an answer must be a token the model can learn to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    OlmoConfig,
)

from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.end_token import REACHABLE, choose_end_token, final_norm, greedy_margin
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer

QUIET = Log(quiet=True)


def test_an_untrained_row_is_out_of_reach(tiny_model: Path) -> None:
    model, tokenizer = load_model(ModelRef(tiny_model)), load_tokenizer(tiny_model)
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        head[pad].normal_(std=0.1)  # a padding row starts at zero
        head[end] = head.mean(0)
    found = greedy_margin(model, range(len(head)))
    assert found[end] < 0
    assert (found > REACHABLE).float().mean() > 0.9
    torch.testing.assert_close(greedy_margin(model, [pad, end]), found[[pad, end]])
    assert choose_end_token(model, tokenizer, None, tokenizer.eos_token, QUIET) == "<|endoftext|>"
    assert choose_end_token(model, tokenizer, "<|im_end|>", None, QUIET) == "<|im_end|>"
    with pytest.raises(InputError, match="not a token"):
        choose_end_token(model, tokenizer, "<none>", None, QUIET)


def test_no_end_token_with_a_margin_is_an_error(tiny_model: Path) -> None:
    model, tokenizer = load_model(ModelRef(tiny_model)), load_tokenizer(tiny_model)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(0.1)
    with pytest.raises(InputError, match="no special token"):
        choose_end_token(model, tokenizer, None, tokenizer.eos_token, QUIET)


def make(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


SHAPE = {
    "vocab_size": 306, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
}  # fmt: skip
FAMILIES = {
    "gemma": GemmaConfig(**SHAPE), "gemma2": Gemma2Config(**SHAPE, final_logit_softcapping=3.0),
    "granite": GraniteConfig(**SHAPE, logits_scaling=4.0), "cohere": CohereConfig(**SHAPE),
    "gpt2": GPT2Config(vocab_size=306, n_embd=64, n_layer=1, n_head=4),
    "olmo": OlmoConfig(**SHAPE), "llama": LlamaConfig(**SHAPE),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_leads_are_those_of_the_models_own_logits(name: str) -> None:
    """Norm gains (1 + w too), biases, scales and caps: as the family's own code has them."""
    model = make(FAMILIES[name])
    norm = final_norm(model)
    assert norm is not None
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        weight = model.get_output_embeddings().weight
        weight[7] = weight.mean(0)
    states: list[torch.Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))
    found = greedy_margin(model, [5, 7, 11])
    handle.remove()
    # What the norm was given for each token, put through the model's own head and what follows it.
    (given,) = [each for each in states if each.ndim == 2]
    swap = norm.register_forward_pre_hook(lambda *_: (given[None],))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[1, 2, 3]])).logits[0].float()
    swap.remove()
    for at, (token, lead) in enumerate(zip([5, 7, 11], found, strict=True)):
        others = logits[at].clone()
        others[token] = -torch.inf
        torch.testing.assert_close(lead, logits[at, token] - others.max(), rtol=1e-4, atol=1e-5)
    assert found[1] <= 0 < min(found[0], found[2])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fresh_model_can_be_tuned(tiny_model: Path, name: str) -> None:
    tokenizer = load_tokenizer(tiny_model)
    usual = tokenizer.eos_token
    assert choose_end_token(make(FAMILIES[name]), tokenizer, None, usual, QUIET) == usual


def test_narrow_heads_of_many_tokens(tiny_model: Path) -> None:
    """No token leads by a nat in 64 dimensions of 40,000 tokens; the untrained is still found."""
    tokenizer = load_tokenizer(tiny_model)
    model = make(LlamaConfig(**{**SHAPE, "vocab_size": 40_000}))
    usual, other = tokenizer.eos_token, tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert float(greedy_margin(model, [other])) < REACHABLE
    assert choose_end_token(model, tokenizer, None, usual, QUIET) == usual
    with torch.no_grad():
        weight = model.get_output_embeddings().weight
        weight[tokenizer.convert_tokens_to_ids(usual)] = weight.mean(0)
        weight[other].normal_(std=0.02)
    assert choose_end_token(model, tokenizer, None, usual, QUIET) == "<|endoftext|>"


def test_nothing_of_the_heads_size_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 reserved tokens against a whole vocabulary: a chunk of rows at a time."""
    monkeypatch.setattr("edgetune.models.end_token.CHUNK_ROWS", 100)
    model = make(LlamaConfig(**SHAPE))
    whole = greedy_margin(model, range(256))
    monkeypatch.setattr("edgetune.models.end_token.CHUNK_ROWS", 1000)
    torch.testing.assert_close(greedy_margin(model, range(256)), whole)


@pytest.mark.assets
@pytest.mark.parametrize("name", ["stories260K", "babyllama-tok105"])
def test_real_models_whose_eos_was_never_trained(assets: Path, name: str) -> None:
    folder = assets / "models" / name
    model, tokenizer = load_model(ModelRef(folder)), load_tokenizer(folder)
    assert tokenizer.eos_token == "</s>"
    assert choose_end_token(model, tokenizer, None, tokenizer.eos_token, QUIET) == "<s>"
