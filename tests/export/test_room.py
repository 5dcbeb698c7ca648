"""The disk asked for is what the files take."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgetune.export.onnx.build import tensor_bytes, write_weights
from edgetune.export.onnx.frame import open_frame
from edgetune.export.room import count_gguf_bytes, count_onnx_bytes
from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.vocabulary import embedding_rows
from edgetune.quantize.plan import ONNX_SETTINGS, settings_of
from tests.conftest import make_model

SHAPES = {"embedding": (1000, 256), "layer": (512, 256), "norm": (256,)}


def test_a_gguf_file_is_its_tensors_blocks() -> None:
    types = {"embedding": "Q8_0", "layer": "Q4_K", "norm": "F32"}
    assert count_gguf_bytes(types, SHAPES) == 1000 * 256 // 32 * 34 + 512 * 144 + 4 * 256


@pytest.mark.parametrize("precision", ONNX_SETTINGS)
@pytest.mark.parametrize("tied", [True, False])
def test_onnx_folders_take_what_is_asked_for(precision: str, tied: bool, tmp_path: Path) -> None:
    """But for rotary tables, and scales and offsets in the graph."""
    model = make_model(tmp_path / "model", layers=2, hidden=256, tied=tied)
    settings = ONNX_SETTINGS[precision]
    asked = count_onnx_bytes(
        {precision: settings}, CheckpointTensors(model).shapes, embedding_rows(model)
    )
    frame = open_frame(model, tmp_path / "scratch")
    write_weights(frame, tmp_path / "made", settings, {})
    rotary = sum(math.prod(frame.shapes[name]) for name in ("cos_cache", "sin_cache"))
    rotary *= 2 if precision == "fp16" else 4
    assert tensor_bytes(tmp_path / "made") == pytest.approx(asked + rotary, rel=2e-3)
    assert count_onnx_bytes({}, {}, None) == 0


def test_a_searched_onnx_file_is_at_most_its_widest_type() -> None:
    few, wide = settings_of({"layer": "uint2_g32"}), settings_of({"layer": "Q8_0"})
    assert count_onnx_bytes({"auto": few}, SHAPES, 1000) == count_onnx_bytes(
        {"auto": wide}, SHAPES, 1000
    )
