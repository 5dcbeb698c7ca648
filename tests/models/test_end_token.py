"""The end of an answer must be a token the model can learn to say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.end_token import REACHABLE, choose_end_token, reach
from edgetune.models.load import load_model, load_tokenizer
from edgetune.models.ref import ModelRef

QUIET = Log(quiet=True)


def test_an_untrained_row_is_out_of_reach(tiny_model: Path) -> None:
    model, tokenizer = load_model(ModelRef(tiny_model)), load_tokenizer(tiny_model)
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        head[pad].normal_(std=0.1)  # a padding row starts at zero
        head[end] = head.mean(0)
    found = reach(model)
    assert found[end] < 0
    assert (found > REACHABLE).float().mean() > 0.9
    assert choose_end_token(model, tokenizer, None, tokenizer.eos_token, QUIET) == "<|endoftext|>"
    assert choose_end_token(model, tokenizer, "<|im_end|>", None, QUIET) == "<|im_end|>"
    with pytest.raises(InputError, match="not a token"):
        choose_end_token(model, tokenizer, "<none>", None, QUIET)


def test_nothing_in_reach_asks_the_user(tiny_model: Path) -> None:
    model, tokenizer = load_model(ModelRef(tiny_model)), load_tokenizer(tiny_model)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(0.1)
    with pytest.raises(InputError, match="no special token"):
        choose_end_token(model, tokenizer, None, tokenizer.eos_token, QUIET)


@pytest.mark.assets
@pytest.mark.parametrize("name", ["stories260K", "babyllama-tok105"])
def test_real_models_whose_eos_was_never_trained(assets: Path, name: str) -> None:
    folder = assets / "models" / name
    model, tokenizer = load_model(ModelRef(folder)), load_tokenizer(folder)
    assert tokenizer.eos_token == "</s>"
    assert choose_end_token(model, tokenizer, None, tokenizer.eos_token, QUIET) == "<s>"
