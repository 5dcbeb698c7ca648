"""A worker on a GPU tells the memory that it took there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetune.measure.worker import run_job
from tests.measure.test_worker import write_job

pytestmark = pytest.mark.gpu


def test_memory_of_the_device(device: str, tiny_model: Path, tmp_path: Path) -> None:
    job = json.loads(write_job(tmp_path, tiny_model, device=device).read_text())
    found = {one["name"]: one for one in run_job(job)["measurements"]}
    weights = (tiny_model / "model.safetensors").stat().st_size
    assert {one["where"]["device"] for one in found.values()} == {device}
    if device == "cuda":
        assert found["peak_vram_bytes"]["value"] > weights / 2  # bfloat16 of float32
    else:
        assert "peak_vram_bytes" not in found
