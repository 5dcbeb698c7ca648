"""The embedded base model: its tokenizer's rules, its size, and that it runs."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgetune.embedded import locate


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(locate("base"))


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(locate("base"), dtype=torch.float32).eval()


@pytest.mark.parametrize(
    "text",
    [
        "set the kitchen light to 40 percent",
        '{"call": "light.set", "level": 40}',
        "  two  spaces\n\ttabs\r\n\n end ",
        "Grüße, naïve café, привет, 日本語",
        "smile 🙂👍🏽 and 1234567890",
        "",
    ],
)
def test_text_round_trips(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_special_tokens(tokenizer):
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert tokenizer.convert_tokens_to_ids(specials) == [0, 1, 2]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 2)
    assert tokenizer.bos_token is None
    assert len(tokenizer) == 4096


def test_chat_template(tokenizer):
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"
    )


def test_config_is_read_by_older_transformers():
    config = json.loads((locate("base") / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    generation = json.loads((locate("base") / "generation_config.json").read_text())
    assert (generation["eos_token_id"], generation["pad_token_id"]) == (2, 0)


def test_weights_are_small_enough_to_carry(model):
    assert locate("base/model.safetensors").stat().st_size < 20_000_000
    assert sum(p.numel() for p in model.parameters()) == 9_705_216
    assert model.config.tie_word_embeddings


def test_model_copies_a_phrase(tokenizer, model):
    chat = [{"role": "user", "content": "repeat: rainy day"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, return_tensors="pt")
    out = model.generate(inputs["input_ids"], max_new_tokens=8, do_sample=False)
    answer = tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "rainy day"
