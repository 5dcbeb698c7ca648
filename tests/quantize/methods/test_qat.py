"""Training on the grid of a file's types, where some tensors have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from edgetune.errors import Interrupted
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.quantize.calibration.rows import Texts
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.ggml_blocks import find_codec
from edgetune.quantize.methods.qat import train_qat
from edgetune.quantize.weights import find_weights
from edgetune.recipe import QatSection
from edgetune.train import loop
from tests.conftest import make_model
from tests.quantize.methods.jobs import make_job

LOG = Log(quiet=True)


def test_types_without_a_codec_are_not_trained(tmp_path: Path) -> None:
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
    section = QatSection(learning_rate=0.004, max_steps=150, batch_size=16)
    (tmp_path / "out" / "scratch").mkdir(parents=True)
    before = {name: candidates.load(name, kind) for name, kind in types.items()}
    texts = Texts([], rows[:2400], rows[2400:])
    job = make_job(candidates, types, texts, section, model=model, out=tmp_path / "out")
    raw, facts = train_qat(job, before)
    assert facts["kept"], facts
    same = {name for name in raw if np.array_equal(raw[name], before[name])}
    assert same == {"blk.0.ffn_up.weight", "blk.0.ffn_gate.weight"}


@pytest.mark.parametrize("scales", ["kept", "learned"])
def test_a_stopped_training_goes_on_as_if_unbroken(
    scales: Literal["kept", "learned"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints hold what the optimizer moved: steps of weights, and those of factors."""
    model = make_model(tmp_path / "model", layers=1, hidden=64)
    loaded = load_model(ModelRef(model))
    shapes = {f"blk.0.{name}.weight": (64, 64) for name in ("attn_q", "attn_output")}
    weights = find_weights(loaded, "llama", 1, shapes)
    candidates = Candidates(loaded, weights, tmp_path / "candidates")
    candidates.make(("Q4_1",), LOG)
    types = dict.fromkeys(candidates.errors, "Q4_1")
    began = {name: candidates.load(name, "Q4_1") for name in types}
    rows = np.random.default_rng(0).integers(5, 300, (704, 24)).tolist()
    texts = Texts([], rows[:640], rows[640:])
    section = QatSection(
        learning_rate=0.015, max_steps=60, batch_size=16, save_every=10, scales=scales
    )

    def train(out: str) -> dict[str, np.ndarray]:
        (tmp_path / out / "scratch").mkdir(parents=True, exist_ok=True)
        job = make_job(candidates, types, texts, section, model=model, out=tmp_path / out)
        raw, facts = train_qat(job, began)
        assert facts["kept"], facts
        return raw

    class Asked(loop.StopWhenAsked):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.asked = state.global_step == 20

    whole = train("whole")
    with monkeypatch.context() as patched, pytest.raises(Interrupted, match="step 21 of 60"):
        patched.setattr(loop, "StopWhenAsked", Asked)
        train("broken")
    resumed, grid = train("broken"), find_codec("Q4_1")
    for name, raw in whole.items():
        assert np.array_equal(raw, resumed[name])
        same = grid.read_super_scales(raw) == grid.read_super_scales(began[name])
        assert same.all() if scales == "kept" else not same.all((0, 1)).any()
