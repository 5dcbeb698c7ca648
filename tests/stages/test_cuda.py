"""tune, distill and merge with ``device: cuda``: the kernels at work, the right model merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgetune.artifact import Artifact
from edgetune.distill.teacher import open_teacher
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.pipeline import run_alone
from edgetune.recipe.load import check_tree
from tests.conftest import write_device_rows
from tests.model_files import make_gguf
from tests.stages.test_distill import WAYS
from tests.stages.test_training import KNOBS

pytestmark = pytest.mark.gpu
IDS = torch.arange(3, 30)[None]


def run(
    stage: str, model: Path, rows: Path, out: Path, inputs: dict[str, Artifact], device: str,
    **section: Any,
) -> Artifact:  # fmt: skip
    """Run one stage on a device with a recipe of its own."""
    tree = {
        "seed": 1,
        "model": {"path": str(model), "device": device},
        "data": {"train": str(rows), "max_length": 48},
        stage: section,
    }
    return run_alone(stage, check_tree(tree, "test"), inputs, out, Log(quiet=True))


@pytest.fixture(scope="module")
def tuned(device: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("tuned")
    rows = write_device_rows(folder / "rows.jsonl")
    return run("tune", tiny_model, rows, folder / "t", {}, device, rank=2, **KNOBS)


def test_auto_is_the_gpu_and_the_merge_is_what_was_tuned(
    device: str, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    tuned = run("tune", tiny_model, device_rows, tmp_path / "t", {}, "auto", rank=4, **KNOBS)
    assert tuned.facts["device"] == device
    assert device == "cpu" or tuned.facts["compute_dtype"] == "bfloat16"
    merged = run("merge", tiny_model, device_rows, tmp_path / "m", {"tune": tuned}, device)
    trained = ModelRef.from_json(tuned.facts["model"], tuned.path)
    with torch.no_grad():
        wanted = load_model(trained, "bfloat16", device)(input_ids=IDS.to(device)).logits
        found = load_model(ModelRef(merged.model_folder))(input_ids=IDS).logits
    wanted = wanted.float().cpu()
    assert (found - wanted).norm() / wanted.norm() < 5e-2


@pytest.mark.parametrize("way", ["cached", *WAYS])
def test_every_way_to_teach(
    way: str, device: str, tuned: Artifact, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    section = {"student": {"layers": 1}, **WAYS.get(way, {"samples": 8}), **KNOBS}
    made = run("distill", tiny_model, device_rows, tmp_path / "d", {"tune": tuned}, device,
               **section)  # fmt: skip
    assert made.facts["steps"] == 4
    if section.get("method") != "on_policy":
        assert made.facts["kernels"] == ("triton" if device == "cuda" else "torch")
    there = run("distill", tiny_model, device_rows, tmp_path / "e", {"tune": tuned}, "cpu",
                **section)  # fmt: skip
    name = "baseline_validation_loss"
    assert made.facts[name] == pytest.approx(there.facts[name], rel=5e-2)


def test_a_file_teaches_where_its_runtime_can_run(device: str, tiny_model: Path) -> None:
    teacher = open_teacher(make_gguf(tiny_model), "float32", device)
    try:
        assert teacher.device == device  # of the losses
        assert teacher.runtime is not None and teacher.runtime.logits([5, 6]).shape[0] == 2
    finally:
        teacher.close()
