"""A whole run small enough for a test: every stage real, a random model of two layers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import make_model


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with every stage, over a random model of four layers and 160 rows."""
    folder = tmp_path_factory.mktemp("e2e")
    model = make_model(folder / "model", layers=4, hidden=64)
    rows = [
        f'{{"prompt": "light {room} {level}", "completion": "{{\\"{room}\\": {level}}}"}}\n'
        for room in ("kitchen", "bedroom", "garage", "hall")
        for level in range(10, 50)
    ]
    (folder / "rows.jsonl").write_text("".join(rows), encoding="utf-8")
    training = {"batch_size": 8, "eval_every": 6, "save_every": 3, "learning_rate": 3e-3}
    recipe: dict[str, Any] = {
        "name": "small",
        "seed": 3,
        "model": {"path": str(model)},
        "data": {"train": str(folder / "rows.jsonl"), "max_length": 64},
        "tune": {**training, "rank": 4, "dropout": 0.05, "max_steps": 12, "packing": False},
        "distill": {**training, "student": {"layers": 2}, "samples": 16, "max_steps": 12},
        "merge": {"measure_rows": 4},
        "quantize": {"gguf": ["F32", "Q8_0", "Q4_0"], "onnx": ["fp32", "int4"],
                     "calibration_rows": 8},
        "export": {"check_rows": 4},
        "bench": {"task_rows": 6, "kl_rows": 4, "max_new_tokens": 8, "prompt_tokens": 16,
                  "new_tokens": 8, "repeats": 2},
    }  # fmt: skip
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def start(recipe: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start ``edgetune run`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "edgetune", "run", str(recipe), "--out", str(out), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
