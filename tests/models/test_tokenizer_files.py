"""A tokenizer's configuration says what transformers 4 knows; ids and template stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from edgetune.models.tokenizer_files import (
    load_tokenizer,
    save_tokenizer,
    suit_transformers_4,
)

TEXT = "light <|im_start|>kitchen 40<|tool|> é"


def test_no_name_that_only_transformers_5_knows(tiny_model: Path, tmp_path: Path) -> None:
    before = load_tokenizer(tiny_model)
    before.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    save_tokenizer(before, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["model_input_names"] == ["input_ids", "attention_mask"]
    assert "extra_special_tokens" not in config  # a list, where transformers 4 wants a mapping
    assert config["additional_special_tokens"] == ["<|tool|>"]
    after = AutoTokenizer.from_pretrained(tmp_path)
    assert after(TEXT).input_ids == before(TEXT).input_ids
    assert list(after(TEXT)) == ["input_ids", "attention_mask"]
    assert after.chat_template == before.chat_template
    assert "<|tool|>" not in after.decode(after(TEXT).input_ids, skip_special_tokens=True)


@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "LlamaTokenizer"])
def test_a_class_that_both_know_stays(name: str, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model / "tokenizer_config.json", tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": name}))
    suit_transformers_4(tmp_path)
    config = json.loads(path.read_text())
    assert config["tokenizer_class"] == name and "model_input_names" not in config


def test_a_folder_without_configuration_stays_without(tmp_path: Path) -> None:
    suit_transformers_4(tmp_path, "template")
    assert not list(tmp_path.iterdir())
