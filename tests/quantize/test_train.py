"""Training on the grid of a file's types, where some tensors have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.train import train_on_grid
from edgetune.quantize.weights import find_weights
from edgetune.recipe import GridSection
from tests.conftest import make_model

LOG = Log(quiet=True)


def test_rows_that_no_grid_holds_stay_as_they_ship(tmp_path: Path) -> None:
    """Rows of 80 are no blocks of 32: they are F16, and the others are trained around that."""
    model = make_model(tmp_path / "model", layers=1, hidden=80)
    loaded = load_model(ModelRef(model))
    shapes = {f"blk.0.{name}.weight": (80, 160) for name in ("ffn_down",)}
    shapes |= {f"blk.0.{name}.weight": (160, 80) for name in ("ffn_up", "ffn_gate")}
    weights = find_weights(loaded, "llama", 1, shapes)
    candidates = Candidates(loaded, weights, tmp_path / "candidates")
    candidates.make(("Q4_0",), LOG)
    types = {name: next(iter(errors)) for name, errors in candidates.errors.items()}
    assert types["blk.0.ffn_down.weight"] == "Q4_0"
    assert types["blk.0.ffn_up.weight"] == types["blk.0.ffn_gate.weight"] == "F16"
    random = np.random.default_rng(0)
    rows = random.integers(5, 300, (2464, 24)).tolist()
    section = GridSection(learning_rate=0.004, max_steps=150, batch_size=16)
    (tmp_path / "out" / "scratch").mkdir(parents=True)
    before = {name: candidates.load(name, kind) for name, kind in types.items()}
    raw, facts = train_on_grid(
        model, candidates, types, before, rows[:2400], rows[2400:], section, 0, tmp_path / "out",
        "x", LOG,
    )  # fmt: skip
    assert facts["kept"], facts
    same = {name for name in raw if np.array_equal(raw[name], before[name])}
    assert same == {"blk.0.ffn_up.weight", "blk.0.ffn_gate.weight"}
