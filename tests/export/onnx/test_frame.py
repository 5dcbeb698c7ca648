"""A graph without its weights: they are read one by one, each once, while a folder is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgetune.export.onnx.build import build_graph, write_weights
from edgetune.export.onnx.frame import open_frame
from edgetune.models import deferred
from edgetune.quantize.plan import ONNX_SETTINGS
from edgetune.runtimes.genai_folder import find_graph
from tests.tiny_models import make_tiny_model


@pytest.mark.parametrize("precision", ONNX_SETTINGS)
def test_each_weight_is_read_once(precision: str, tiny_model: Path, tmp_path: Path) -> None:
    frame = open_frame(tiny_model, tmp_path / "scratch")
    assert not any(tensor.raw_data for tensor in frame.model.graph.initializer)
    read: list[str] = []

    def watch(name: str) -> np.ndarray:
        read.append(name)
        return frame.read(name)

    write_weights(replace(frame, read=watch), tmp_path / "made", ONNX_SETTINGS[precision], {})
    assert sorted(read) == sorted(frame.shapes)
    assert not list((tmp_path / "scratch").rglob("*.onnx*"))


@pytest.mark.parametrize("family", ["phi3", "qwen2"])  # joined and taken apart; with biases
def test_equals_a_graph_of_a_model_in_memory(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tiny_model(family, tmp_path / "model", real_tokenizer=False)
    build_graph(model, tmp_path / "deferred", tmp_path / "scratch")
    monkeypatch.setattr("edgetune.export.onnx.frame.open_deferred", lambda folder: None)
    build_graph(model, tmp_path / "whole", tmp_path / "scratch")
    found, wanted = (onnx.load(find_graph(tmp_path / name)) for name in ("deferred", "whole"))
    assert found == wanted


def test_a_tied_table_is_read_once(tmp_path: Path) -> None:
    model = make_tiny_model("qwen2", tmp_path / "model", real_tokenizer=False)
    frame = open_frame(model, tmp_path / "scratch")
    assert [name for name in frame.shapes if "lm_head" in name or "embed" in name] == [
        "lm_head.MatMul.weight"
    ]
    assert deferred.open_deferred(model) is not None
