"""A tuning of several steps on a tiny model: each goes on from the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgetune.artifact import Artifact
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.pipeline import execute
from edgetune.recipe.load import check_tree
from edgetune.report.steps import find_steps, step_rows
from edgetune.rundir import RunDir

QUIET = Log(quiet=True)
STEP = {"max_steps": 2, "batch_size": 4, "eval_every": 2, "learning_rate": 5e-3}


def execute_steps(
    model: Path, rows: Path, out: Path, steps: list[dict[str, Any]], **more: Any
) -> dict[str, Artifact]:
    tree = {
        "model": {"path": str(model), "device": "cpu", "compute_dtype": "float32"},
        "data": {"train": str(rows), "max_length": 48}, "tune": steps, **more,
    }  # fmt: skip
    out.mkdir(exist_ok=True)
    return execute(check_tree(tree, "test"), {}, RunDir(out), QUIET)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    lines = (f'{{"text": "light kitchen {n} on and off again"}}\n' for n in range(40))
    path.write_text("".join(lines))
    return path


def adapter(artifact: Artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact.path / "adapter" / "adapter_model.safetensors")


def test_a_step_trains_the_adapter_of_the_one_before(
    tiny_model: Path, device_rows: Path, texts: Path, tmp_path: Path
) -> None:
    own = {"train": str(texts), "format": "text", "max_length": 48}
    steps = [
        {**STEP, "objective": "text", "method": "lora", "rank": 4, "data": own},
        {**STEP, "learning_rate": 1e-12, "warmup_ratio": 0.0},  # too small to move a weight
    ]
    made = execute_steps(tiny_model, device_rows, tmp_path / "run", steps, merge={})
    assert list(made) == ["prepare", "prepare-text", "tune-text", "tune", "merge"]
    first, second = adapter(made["tune-text"]), adapter(made["tune"])
    assert first.keys() == second.keys()
    for name, weights in first.items():
        torch.testing.assert_close(weights, second[name], rtol=0, atol=1e-8)
    assert any(weights.abs().max() > 0 for name, weights in first.items() if "lora_B" in name)
    assert made["merge"].facts["candidates"][0]["kl_answer_tokens"] < 1e-4
    gain = made["tune-text"].facts["gain"]
    assert gain["scores"]["after"]["loss"] != gain["scores"]["before"]["loss"]
    assert gain["figures"]["loss"]["n"] > 1

    rows = step_rows({"steps": find_steps(made)})
    assert [(name, objective) for name, objective, _ in rows] == [("text", "text"), ("sft", "sft")]
    assert "→" in rows[0][2][4].text and rows[0][2][0].text == "38"
    assert rows[0][2][4].n == gain["figures"]["loss"]["n"]


def test_an_adapter_goes_over_weights_that_a_step_trained_whole(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    steps = [{**STEP, "method": "full", "learning_rate": 1e-3}, {**STEP, "method": "lora"}]
    made = execute_steps(tiny_model, device_rows, tmp_path / "run", steps, merge={})
    whole = made["tune-sft"].path / "model"
    after = ModelRef.from_json(made["tune"].facts["model"], made["tune"].path)
    assert after.base.resolve() == whole.resolve()
    with torch.no_grad():
        ids = torch.arange(3, 30)[None]
        trained = load_model(after)(input_ids=ids).logits
        merged = load_model(ModelRef(made["merge"].model_folder))(input_ids=ids).logits
    torch.testing.assert_close(merged, trained, atol=5e-2, rtol=5e-2)


def test_a_changed_step_makes_itself_and_the_steps_after_it_again(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    steps = [{**STEP, "method": "lora", "rank": 4}, STEP]
    before = execute_steps(tiny_model, device_rows, tmp_path / "run", steps)
    steps[1] = {**STEP, "max_steps": 3}
    after = execute_steps(tiny_model, device_rows, tmp_path / "run", steps)
    assert after["tune-sft"].key == before["tune-sft"].key
    assert after["tune"].key != before["tune"].key and after["tune"].facts["steps"] == 3
