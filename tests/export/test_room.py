"""The disk asked for is what the files take."""

from __future__ import annotations

import pytest

from edgetune.export.room import count_gguf_bytes, count_onnx_bytes
from edgetune.quantize.plan import ONNX_SETTINGS, settings_of

SHAPES = {"embedding": (1000, 256), "layer": (512, 256), "norm": (256,)}


def test_a_gguf_file_is_its_tensors_blocks() -> None:
    types = {"embedding": "Q8_0", "layer": "Q4_K", "norm": "F32"}
    assert count_gguf_bytes(types, SHAPES) == 1000 * 256 // 32 * 34 + 512 * 144 + 4 * 256


@pytest.mark.parametrize(("precision", "each"), [("fp32", 4), ("fp16", 6), ("int8", 5.125)])
def test_onnx_folders_are_made_from_a_float32_graph(precision: str, each: float) -> None:
    weights = 2 * 1000 * 256 + 512 * 256 + 256  # the embedding is the head too
    assert count_onnx_bytes({precision: ONNX_SETTINGS[precision]}, SHAPES) == int(each * weights)
    assert count_onnx_bytes({}, SHAPES) == 0


def test_a_searched_onnx_file_is_at_most_its_widest_type() -> None:
    few, wide = settings_of({"layer": "uint2_g32"}), settings_of({"layer": "Q8_0"})
    assert count_onnx_bytes({"auto": few}, SHAPES) == count_onnx_bytes({"auto": wide}, SHAPES)
