"""Every kind of rotary scaling that transformers 5 writes reaches the GGUF file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.runtimes import open_runtime
from tests import tiny_models

_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LONG = {
    "rope_type": "longrope", "long_factor": [4.0 + n for n in range(8)],
    "short_factor": [1.0 + 0.25 * n for n in range(8)],
}  # fmt: skip
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("llama 3, 64 positions", "llama", {"rope_parameters": {
        **_LLAMA3, "rope_theta": 1e4, "original_max_position_embeddings": 64}}),
    ("llama 3, no positions named", "llama", {"rope_parameters": {**_LLAMA3, "rope_theta": 1e4}}),
    ("llama 3, old key", "llama", {"rope_scaling": {
        **_LLAMA3, "original_max_position_embeddings": 32}, "rope_theta": 5e4}),
    ("linear", "llama", {"rope_parameters": {
        "rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    ("yarn", "llama", {"rope_parameters": {
        "rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
        "original_max_position_embeddings": 128}}),
    ("yarn with an attention factor", "llama", {"rope_parameters": {
        "rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "attention_factor": 1.3,
        "original_max_position_embeddings": 128}}),
    ("longrope", "phi3", {"rope_parameters": {**_LONG, "rope_theta": 1e4,
        "original_max_position_embeddings": 256}, "original_max_position_embeddings": 256}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("family", "extra"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_scaled_positions_are_those_of_the_model(
    family: str, extra: dict[str, Any], tmp_path: Path
) -> None:
    known = tiny_models.FAMILIES[family]
    scaled = replace(known, extra={**known.extra, **extra})
    with mock.patch.dict(tiny_models.FAMILIES, {family: scaled}):
        model = tiny_models.make_tiny_model(family, tmp_path / "model", real_tokenizer=False)
    convert_gguf(model, tmp_path / "x.gguf", GgufHeader("scaled"))
    ids = [3 + n * 7 % 90 for n in range(200)]
    logits = []
    for path in (tmp_path / "x.gguf", model):
        runtime = open_runtime(path, threads=2)
        logits.append(runtime.logits(ids))
        runtime.close()
    np.testing.assert_allclose(*logits, atol=2e-4)
