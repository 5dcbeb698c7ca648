"""A child process has the memory that its file's vocabulary needs, and no more than it explains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.runtimes.gguf_header import open_gguf
from edgetune.runtimes.isolated import Isolated, memory_limit
from tests.diagnose.injected_faults import rewrite

WORDS = 150_000


@pytest.fixture(scope="module")
def wide(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow model with a vocabulary as large as Qwen's: 20 MB."""
    folder = tmp_path_factory.mktemp("wide")
    convert_gguf(tiny_model, folder / "F32.gguf", GgufHeader("tiny"))
    file = open_gguf(folder / "F32.gguf")
    tokens = list(file.keys["tokenizer.ggml.tokens"])
    more = WORDS - len(tokens)
    keys = {
        "tokenizer.ggml.tokens": [*tokens, *(f"<|more_{n}|>" for n in range(more))],
        "tokenizer.ggml.token_type": [*file.keys["tokenizer.ggml.token_type"], *[5] * more],
        "llama.vocab_size": WORDS,
    }
    width = file.tensors["token_embd.weight"].shape[1]
    table = np.random.default_rng(0).normal(0, 0.1, (WORDS, width))
    tables = {
        name: (table, "Q8_0")
        for name in ("token_embd.weight", "output.weight")
        if name in file.tensors
    }
    return rewrite(folder / "F32.gguf", folder / "wide.gguf", keys, tensors=tables)


@pytest.mark.slow
def test_a_small_file_of_a_large_vocabulary_runs(wide: Path) -> None:
    runtime = Isolated(wide, 2)
    try:
        assert runtime.logits([3] * 1500).shape == (1500, WORDS)
    finally:
        runtime.close()


def test_a_vocabulary_counts_no_further_than_the_file_explains(tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text(json.dumps({"model": {"vocab_size": 10**12}}))
    assert memory_limit(tmp_path, 1000) < memory_limit(tmp_path, 0) + (64 << 20)
    (tmp_path / "genai_config.json").write_text(json.dumps({"model": {"vocab_size": WORDS}}))
    assert memory_limit(tmp_path, 20 << 20) > 4 * WORDS * 4096
    (tmp_path / "genai_config.json").write_text("[]")
    assert memory_limit(tmp_path, 1000) == memory_limit(tmp_path, 0) + 16_000
