"""Quantized GGUF files: what cannot be written is refused by the tensor's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.runtimes.gguf_header import open_gguf
from tests.conftest import make_model

HEADER = GgufHeader("tiny")


def test_refuses_nan_by_the_tensors_name(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = make_model(tmp_path / "model", layers=1)
    weights = load_file(model / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    convert_gguf(model, tmp_path / "F32.gguf", HEADER)
    source = open_gguf(tmp_path / "F32.gguf")
    types = dict.fromkeys(source.tensors, "F16")
    with pytest.raises(InputError, match="1 of 8192 weights are NaN") as error:
        write_gguf(source, tmp_path / "F16.gguf", Quantization("F16", types))
    assert "blk.0.ffn_up.weight" in str(error.value)


def test_a_tensor_without_a_type_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "F32.gguf"
    convert_gguf(tiny_model, file, HEADER)
    with pytest.raises(InputError, match="no type for this tensor"):
        write_gguf(open_gguf(file), tmp_path / "x.gguf", Quantization("F16", {}))
