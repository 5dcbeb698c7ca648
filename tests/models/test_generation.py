"""Defaults for generating that transformers refuses to save stop no training and are not lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgetune.log import Log
from edgetune.models.generation import generation_fault, restore_generation_config
from edgetune.models.load import load_base

CONTRADICTIONS: list[dict[str, Any]] = [
    {"do_sample": False, "temperature": 0.9},
    {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "top_k": 7, "typical_p": 0.5},
    {"temperature": 0.1},
    {"early_stopping": True, "length_penalty": 0.3},
    {"min_p": 0.05, "do_sample": False},
]
SOUND: list[dict[str, Any]] = [
    {"do_sample": True, "temperature": 0.6, "top_p": 0.9},
    {"do_sample": False},
    {"max_length": 512},
]


def with_defaults(tiny_model: Path, out: Path, values: dict[str, Any]) -> Path:
    shutil.copytree(tiny_model, out)
    text = json.dumps({"eos_token_id": [2, 1], "pad_token_id": 1, **values})
    (out / "generation_config.json").write_text(text)
    return out


@pytest.mark.parametrize("values", CONTRADICTIONS, ids=str)
def test_contradictions_are_fixed_in_memory_and_kept_on_disk(
    tiny_model: Path, tmp_path: Path, values: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_defaults(tiny_model, tmp_path / "model", values)
    assert generation_fault(folder)
    model = load_base(folder, False, "float32", "cpu")
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert (saved["eos_token_id"], saved["pad_token_id"]) == ([2, 1], 1)
    restore_generation_config(folder, tmp_path / "saved", Log())
    name = "generation_config.json"
    assert (tmp_path / "saved" / name).read_bytes() == (folder / name).read_bytes()
    assert "contradicts itself" in capsys.readouterr().err


@pytest.mark.parametrize("values", SOUND, ids=str)
def test_sound_defaults_are_left_alone(
    tiny_model: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    folder = with_defaults(tiny_model, tmp_path / "model", values)
    assert generation_fault(folder) is None
    model = load_base(folder, False, "float32", "cpu")
    model.save_pretrained(tmp_path / "saved")
    restore_generation_config(folder, tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert {**saved, **values} == saved
