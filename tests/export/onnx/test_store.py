"""A graph's weights are written one at a time, and read back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgetune.export.onnx import store
from edgetune.export.onnx.store import WeightStore

WEIGHTS = {
    "rows": np.arange(3000, dtype=np.float32).reshape(30, 100),
    "columns": np.arange(3000, dtype=np.float16).reshape(100, 30).T,
    "shape": np.array([0, 0, -1]),
    "one": np.array(1, np.float32),
    "bytes": np.arange(4096, dtype=np.uint32).astype(np.uint8).reshape(4, 8, 128),
}


def test_holds_what_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_CHUNK_BYTES", 700)
    with WeightStore(tmp_path / "data", "data") as written:
        for name, values in WEIGHTS.items():
            written.add(name, values)
    assert written.bytes == (tmp_path / "data").stat().st_size
    outside = {each.name for each in written.tensors if each.external_data}
    assert outside == {"rows", "columns", "bytes"}
    for tensor in written.tensors:
        values = numpy_helper.to_array(tensor, str(tmp_path))
        assert values.dtype == WEIGHTS[tensor.name].dtype
        assert np.array_equal(values, WEIGHTS[tensor.name])


def test_layout_is_that_of_onnx(tmp_path: Path) -> None:
    plain = onnx.helper.make_graph(
        [], "g", [], [], [numpy_helper.from_array(v, n) for n, v in WEIGHTS.items()]
    )
    onnx.save(
        onnx.helper.make_model(plain), tmp_path / "model.onnx", save_as_external_data=True,
        location="wanted", size_threshold=1024,
    )  # fmt: skip
    with WeightStore(tmp_path / "found", "wanted") as written:
        for name, values in WEIGHTS.items():
            written.add(name, values)
    assert (tmp_path / "found").read_bytes() == (tmp_path / "wanted").read_bytes()
    saved = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.initializer
    assert list(saved) == written.tensors


def test_counts_without_a_file(tmp_path: Path) -> None:
    store = WeightStore(None, "data")
    store.add("large", np.broadcast_to(np.float32(0), (1 << 20, 1 << 20)))
    assert store.bytes == 4 << 40
