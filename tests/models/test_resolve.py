"""What is named as a model and is none is called by its name, with what to name instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetune.artifact import commit_part, open_part
from edgetune.errors import InputError
from edgetune.models.resolve import resolve_model


def make_artifact(path: Path, kind: str, stage: str) -> Path:
    part = open_part(path, "k")
    (part / "model").mkdir()
    (part / "model" / "config.json").write_text("{}")
    commit_part(path, kind, stage, "k", {}, {"folder": "model"} if kind == "model" else {})
    return path


def refuse(path: Path | str, *words: str) -> None:
    with pytest.raises(InputError) as error:
        resolve_model(str(path))
    for word in words:
        assert word in str(error.value)


def test_what_merge_made_is_taken(tmp_path: Path) -> None:
    merged = make_artifact(tmp_path / "merged", "model", "merge")
    assert resolve_model(str(merged)) == merged / "model"
    assert resolve_model(str(merged / "model")) == merged / "model"


def test_other_things_are_named(tmp_path: Path) -> None:
    refuse(make_artifact(tmp_path / "tuned", "adapter", "tune"), "edgetune tune", "merge --adapter")
    refuse(make_artifact(tmp_path / "files", "files", "export"), "edgetune export", "bench")
    refuse(make_artifact(tmp_path / "plan", "plan", "quantize"), "edgetune quantize", "(plan)")
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/b"}))
    refuse(adapter, "LoRA adapter", "--model (org/b)", "merge --adapter")
    onnx = tmp_path / "export" / "onnx"
    onnx.mkdir(parents=True)
    (onnx / "model.onnx").write_text("")
    refuse(onnx.parent, "ONNX folder", "bench and verify")
    gguf = tmp_path / "ggufs" / "some.bin"
    gguf.parent.mkdir()
    gguf.write_bytes(b"GGUF\x03\x00")
    refuse(gguf, "GGUF file", "--teacher")
    gguf.rename(gguf.with_suffix(".gguf"))
    refuse(gguf.parent, "some.gguf", "GGUF file")
    weights = tmp_path / "m" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"")
    refuse(weights, "this is a file", f"lies in: {tmp_path / 'm'}")
    refuse("x" * 5000, "no such model folder")
    refuse("a\0b", "no such model folder")


def test_a_whole_model_with_more_beside_it_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert resolve_model(str(tmp_path)) == tmp_path
