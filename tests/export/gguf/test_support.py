"""Which models can be GGUF files: architectures and tokenizers that llama.cpp knows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgetune.errors import Unsupported
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.gguf.support import check_gguf_support, find_architecture

HEADER = GgufHeader("tiny")


def change_tokenizer(model: Path, target: Path, **changes: object) -> Path:
    shutil.copytree(model, target)
    path = target / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return target


def test_finds_the_architecture(tiny_model: Path) -> None:
    assert find_architecture(tiny_model) == ("llama", 2, True)


def test_refuses_an_unknown_pre_tokenizer_by_name(tiny_model: Path, tmp_path: Path) -> None:
    odd = {"type": "Split", "pattern": {"Regex": "[aeiou]+"}, "behavior": "Isolated"}
    byte = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    steps = {
        "type": "Sequence",
        "pretokenizers": [odd | {"invert": False}, byte | {"trim_offsets": True}],
    }
    model = change_tokenizer(tiny_model, tmp_path / "odd", pre_tokenizer=steps)
    (fault,) = check_gguf_support(model)
    assert "[aeiou]+" in fault
    with pytest.raises(Unsupported, match="no pre-tokenizer that splits text"):
        convert_gguf(model, tmp_path / "odd.gguf", HEADER)
    assert not (tmp_path / "odd.gguf").exists()


def test_refuses_an_unknown_architecture(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config["architectures"] = ["NobodyForCausalLM"]
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    assert "NobodyForCausalLM" in check_gguf_support(tmp_path / "model")[0]
    path = tmp_path / "model" / "config.json"
    config |= {"architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1, 1, 1, 0, 1]}
    path.write_text(json.dumps(config))
    assert check_gguf_support(tmp_path / "model") == []
    path.write_text(json.dumps({**config, "no_rope_layers": [1, 0]}))
    assert "every fourth layer" in check_gguf_support(tmp_path / "model")[0]


@pytest.mark.assets
def test_babyllama_is_refused_before_any_work(assets: Path) -> None:
    (fault,) = check_gguf_support(assets / "models/babyllama-tok105")
    assert "without byte fallback" in fault
