"""A file written from the model, a tensor at a time, is the file that goes through F32."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgetune.artifact import hash_file
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf, open_model
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.quantize.formats.ggml import fits_rows
from edgetune.quantize.formats.llama_quantize import stock_types
from edgetune.runtimes.gguf_header import open_gguf
from tests.tiny_models import make_tiny_model

HEADER = GgufHeader("twin", end_id=0, add_bos=False, extra={"edgetune.x": "y"})
# Permuted rows of q and k; a tied head and biases; fused q, k and v; transposed; stacked experts.
NAMES = ["llama", "qwen2", "phi3", "gpt2", "gemma3", "qwen2moe", "mixtral"]


@pytest.fixture(scope="module", params=itertools.product(NAMES, (torch.float32, torch.bfloat16)))
def twin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, dtype = request.param
    folder = make_tiny_model(name, tmp_path_factory.mktemp("streamed") / name, real_tokenizer=False)
    path = folder / "model.safetensors"
    weights = {key: value.to(dtype) for key, value in load_file(path).items()}
    save_file(weights, path, {"format": "pt"})
    return folder


def test_the_bytes_are_those_of_the_way_through_f32(twin: Path, tmp_path: Path) -> None:
    convert_gguf(twin, tmp_path / "F32.gguf", HEADER)
    plain = open_gguf(tmp_path / "F32.gguf")
    model = open_model(twin, tmp_path / "frame.gguf", HEADER)
    assert model.keys == plain.keys and model.types == plain.types
    assert model.tensors == plain.tensors
    kinds = {
        name: "Q8_0" if len(one.shape) > 1 and fits_rows(one.shape[-1], "Q8_0") else "F32"
        for name, one in plain.tensors.items()
    }
    generator = np.random.default_rng(0)
    importance = {
        name: generator.random((*one.shape[:-2], one.shape[-1]), np.float32)
        for name, one in plain.tensors.items()
        if kinds[name] != "F32"
    }
    for number, source in enumerate((plain, model)):
        for name in plain.tensors:
            assert np.array_equal(source.read(name), plain.read(name)), name
        write_gguf(source, tmp_path / f"{number}.gguf", Quantization("Q8_0", kinds, importance))
    assert hash_file(tmp_path / "0.gguf") == hash_file(tmp_path / "1.gguf")


def test_llama_cpp_chooses_alike_from_the_frame(twin: Path, tmp_path: Path) -> None:
    convert_gguf(twin, tmp_path / "F32.gguf", HEADER)
    frame = tmp_path / "frame.gguf"
    open_model(twin, frame, HEADER)
    for scheme in ("Q4_K_M", "Q3_K_M", "Q8_0"):
        assert stock_types(frame, scheme) == stock_types(tmp_path / "F32.gguf", scheme)
    assert frame.stat().st_size == (tmp_path / "F32.gguf").stat().st_size


def test_the_skeleton_takes_no_disk_and_no_memory(tiny_model: Path, tmp_path: Path) -> None:
    model = open_model(tiny_model, tmp_path / "frame.gguf", HEADER)
    stat = model.path.stat()
    first = min(one.offset for one in model.tensors.values())
    assert stat.st_blocks * 512 < first + 8192 < stat.st_size
    model.read("token_embd.weight")
    assert model.lazy["token_embd.weight"]._data is None
