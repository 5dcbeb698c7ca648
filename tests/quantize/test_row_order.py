"""Rows that a converter moved are found again; strangers and twins are not guessed at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.row_order import order_like
from edgetune.quantize.weights import find_weights
from edgetune.runtimes.gguf_header import open_gguf
from tests.conftest import make_model


def test_rows_in_another_order_are_found(tmp_path: Path) -> None:
    convert_gguf(make_model(tmp_path / "model"), tmp_path / "F32.gguf", GgufHeader("order"))
    model, source = load_model(ModelRef(tmp_path / "model")), open_gguf(tmp_path / "F32.gguf")
    shapes = {name: tuple(tensor.shape) for name, tensor in source.tensors.items()}
    found = find_weights(model, "llama", model.config.num_hidden_layers, shapes)
    weights = {weight.tensor: weight for weight in found}
    for name in ("blk.0.attn_q.weight", "blk.0.ffn_up.weight"):
        mine = weights[name].read(model)
        order = order_like(source.read(name), mine)
        assert order is not None and np.array_equal(mine[order], source.read(name))
    q = weights["blk.0.attn_q.weight"].read(model)
    moved = order_like(source.read("blk.0.attn_q.weight"), q)
    assert moved is not None and not np.array_equal(moved, np.arange(len(q)))
    assert order_like(q + 1, q) is None
    q[1] = q[0]
    assert order_like(q[::-1].copy(), q) is None
