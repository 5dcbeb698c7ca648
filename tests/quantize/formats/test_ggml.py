"""ggml in process: the bytes and the types of llama.cpp's own quantizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from edgetune.errors import InputError, Unsupported
from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.quantize.formats.ggml import (
    needs_importance,
    quantize_tensor,
    row_bytes,
)
from edgetune.quantize.formats.llama_quantize import run_quantizer, stock_types
from edgetune.quantize.formats.types import GGUF
from edgetune.recipe import GGUF_SCHEMES
from edgetune.runtimes.ggml import dequantize_tensor
from edgetune.runtimes.gguf_header import open_gguf
from tests.conftest import make_model


@pytest.fixture(scope="module")
def wide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine layers of width 256: K-quants apply, and the first layers get types of their own."""
    folder = tmp_path_factory.mktemp("wide")
    model = make_model(folder / "model", layers=9, hidden=256)
    convert_gguf(model, folder / "F32.gguf", GgufHeader("wide"))
    return folder / "F32.gguf"


@pytest.fixture(scope="module")
def narrow_file(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 64: every K-quant falls back."""
    path = tmp_path_factory.mktemp("narrow") / "F32.gguf"
    convert_gguf(tiny_model, path, GgufHeader("narrow"))
    return path


def importance_of(path: Path) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        tensor.name: random.random(tensor.data.shape[-1], dtype=np.float32) + 0.01
        for tensor in GGUFReader(path).tensors
        if tensor.data.ndim > 1
    }


def contents(path: Path) -> dict[str, tuple[int, bytes]]:
    return {t.name: (int(t.tensor_type), t.data.tobytes()) for t in GGUFReader(path).tensors}


def metadata(path: Path) -> dict[str, str]:
    return {key: repr(entry.contents()) for key, entry in GGUFReader(path).fields.items()}


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("scheme", GGUF_SCHEMES)
@pytest.mark.parametrize("source", ["wide_file", "narrow_file"])
def test_writes_what_llama_cpp_writes(
    scheme: str, weighed: bool, source: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(source)
    importance = importance_of(path) if weighed else None
    run_quantizer(path, tmp_path / "llama.gguf", scheme, importance)
    mix = stock_types(path, scheme, importance)
    write_gguf(
        open_gguf(path), tmp_path / "own.gguf", Quantization(scheme, mix.types, importance or {})
    )
    assert contents(tmp_path / "own.gguf") == contents(tmp_path / "llama.gguf")
    assert metadata(tmp_path / "own.gguf") == metadata(tmp_path / "llama.gguf")


def test_the_types_depend_on_layer_and_importance(wide_file: Path) -> None:
    plain = stock_types(wide_file, "Q4_0").types
    weighed = stock_types(wide_file, "Q4_0", importance_of(wide_file)).types
    assert plain["blk.0.ffn_down.weight"] == "Q4_0"
    assert weighed["blk.0.ffn_down.weight"] == "Q4_1"
    mixed = stock_types(wide_file, "Q4_K_M").types
    assert {mixed[f"blk.{layer}.attn_v.weight"] for layer in range(9)} == {"Q4_K", "Q6_K"}
    assert mixed["token_embd.weight"] == "Q6_K"
    assert mixed["blk.0.attn_norm.weight"] == "F32"


def test_names_every_fallback(narrow_file: Path, wide_file: Path) -> None:
    mix = stock_types(narrow_file, "Q4_K_M")
    query = next(f for f in mix.fallbacks if f["tensor"] == "blk.0.attn_q.weight")
    assert query == {
        "tensor": "blk.0.attn_q.weight",
        "wanted": "Q4_K",
        "got": "Q5_0",
        "why": "ncols 64 not divisible by 256",
    }
    assert len(mix.fallbacks) == 14  # 7 weights in each of 2 layers; the head takes Q8_0 unasked
    assert all(mix.types[f["tensor"]] == f["got"] for f in mix.fallbacks)
    assert stock_types(wide_file, "Q4_K_M").fallbacks == []


def test_importance_moves_the_error_to_columns_that_matter_less() -> None:
    random = np.random.default_rng(1)
    values = random.standard_normal((64, 256), dtype=np.float32)
    weights = np.ones(256, np.float32)
    weights[::16] = 1000
    plain, weighed = (
        dequantize(quantize_tensor(values, "Q4_K", given), 12) - values
        for given in (np.ones(256, np.float32), weights)
    )
    assert np.square(weighed[:, ::16]).mean() < 0.7 * np.square(plain[:, ::16]).mean()


def test_long_tensors_are_cut_into_chunks_of_rows() -> None:
    values = np.random.default_rng(2).standard_normal((5000, 512), dtype=np.float32)
    whole = quantize_tensor(values, "Q6_K")
    assert whole.shape == (5000, row_bytes(512, "Q6_K"))
    assert np.array_equal(whole[4321:], quantize_tensor(values[4321:].copy(), "Q6_K"))


@pytest.mark.parametrize(
    ("values", "importance", "fault"),
    [
        (np.zeros((2, 32), np.float64), None, "float32"),
        (np.zeros((32, 2), np.float32).T, None, "C-contiguous"),
        (np.full((2, 32), np.nan, np.float32), None, "64 of 64 weights are NaN"),
        (np.zeros((2, 32), np.float32), np.ones(31, np.float32), r"\(31,\)"),
        (np.zeros((2, 32), np.float32), -np.ones(32, np.float32), "not negative"),
    ],
)
def test_refuses_what_ggml_would_read_past(
    values: np.ndarray, importance: np.ndarray | None, fault: str
) -> None:
    with pytest.raises(InputError, match=fault) as error:
        quantize_tensor(values, "Q8_0", importance, "blk.0.attn_q.weight")
    assert "blk.0.attn_q.weight" in str(error.value)


def test_refuses_rows_of_no_whole_blocks() -> None:
    with pytest.raises(Unsupported, match="rows of 172 values cannot be Q4_0"):
        quantize_tensor(np.zeros((2, 172), np.float32), "Q4_0")


@pytest.mark.parametrize("kind", ["F32", *GGUF.names])
def test_reads_back_what_gguf_reads(kind: str) -> None:
    values = np.random.default_rng(3).standard_normal((33, 512), dtype=np.float32)
    raw = quantize_tensor(values, kind, np.ones(512, np.float32))
    assert np.array_equal(
        dequantize_tensor(raw, kind), dequantize(raw, GGMLQuantizationType[kind]).reshape(33, 512)
    )


def test_a_type_that_ggml_aborts_on_is_refused() -> None:
    values = np.zeros((2, 256), np.float32)
    assert needs_importance("IQ2_XXS") and not needs_importance("IQ3_S")
    with pytest.raises(Unsupported, match="without an importance matrix"):
        quantize_tensor(values, "IQ2_XXS", None, "blk.0.attn_q.weight")
    with pytest.raises(InputError, match="not rows of Q4_K"):
        dequantize_tensor(np.zeros((2, 143), np.uint8), "Q4_K")
