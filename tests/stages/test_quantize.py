"""quantize: the plan is llama.cpp's mix, weighed by the user's train rows, and repeatable."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgetune.artifact import Artifact, hash_file
from edgetune.data.contract import write_contract
from edgetune.data.encode import make_encoder
from edgetune.data.load import load_splits
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.load import load_tokenizer
from edgetune.quantize.imatrix import read_imatrix
from edgetune.quantize.plan import read_plan
from edgetune.recipe import Recipe, Sections
from edgetune.stages import quantize

LOG = Log(quiet=True)


def merge(tiny_model: Path, recipe: Recipe, folder: Path) -> Artifact:
    """What the merge stage leaves: the model and its contract."""
    assert recipe.data is not None
    shutil.copytree(tiny_model, folder / "model")
    encoder = make_encoder(load_tokenizer(tiny_model), recipe.data, None)
    rows = load_splits(recipe.data, recipe.seed, LOG)
    write_contract(encoder, rows.test, folder / "model")
    return Artifact(folder, "model", "merge", "key")


def make_recipe(rows: Path, **sections: dict[str, object]) -> Recipe:
    base = {"model": {"path": "unused"}, "data": {"train": str(rows)}, "name": "tiny"}
    return Recipe.model_validate(base | sections)


def quantized(recipe: Recipe, merged: Artifact, out: Path) -> Artifact:
    out.mkdir()
    sections = Sections(recipe, ("data", "quantize"))
    facts = quantize.run(sections, {"merge": merged}, out, LOG)
    return Artifact(out, "plan", "quantize", "key", facts=facts)


def test_plans_every_scheme(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    settings = {"gguf": ["F32", "Q4_K_M"], "onnx": ["int4"], "calibration_rows": 8}
    recipe = make_recipe(device_rows, quantize=settings)
    made = quantized(recipe, merge(tiny_model, recipe, tmp_path / "merge"), tmp_path / "plan")
    plan = read_plan(made.path)
    assert list(plan.gguf) == ["F32", "Q4_K_M"]
    assert set(plan.gguf["F32"].values()) == {"F32"}
    assert plan.gguf["Q4_K_M"]["blk.0.attn_q.weight"] == "Q5_0"  # rows of 64 hold no K-quant
    assert {f["scheme"] for f in plan.fallbacks} == {"Q4_K_M"}
    assert made.facts["fallbacks"] == plan.fallbacks
    assert plan.onnx["int4"]["weights"] == "Q4_0"
    assert plan.imatrix_sha256 == hash_file(made.path / "imatrix.gguf")
    assert plan.calibration["rows"] == 8
    assert len(read_imatrix(made.path / "imatrix.gguf")) == 15


def test_the_seed_decides_the_calibration_rows(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    hashes = []
    for number, seed in enumerate((0, 0, 1)):
        settings = {"gguf": [], "onnx": ["int8"], "calibration_rows": 4}
        recipe = make_recipe(device_rows, quantize=settings).model_copy(update={"seed": seed})
        merged = merge(tiny_model, recipe, tmp_path / f"merge{number}")
        made = quantized(recipe, merged, tmp_path / f"plan{number}")
        hashes.append((made.facts["calibration"]["sha256"], made.facts["importance"]["sha256"]))
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_without_an_importance_matrix(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    recipe = make_recipe(device_rows, quantize={"gguf": ["Q4_0"], "onnx": [], "imatrix": False})
    made = quantized(recipe, merge(tiny_model, recipe, tmp_path / "merge"), tmp_path / "plan")
    assert not (made.path / "imatrix.gguf").exists()
    assert read_plan(made.path).imatrix_sha256 is None


def test_an_importance_matrix_needs_data(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(device_rows, quantize={})
    merged = merge(tiny_model, recipe, tmp_path / "merge")
    with pytest.raises(InputError, match="needs data"):
        quantized(recipe.model_copy(update={"data": None}), merged, tmp_path / "plan")


def test_what_was_trained_on_the_grid_is_what_ships(device_rows: Path, tmp_path: Path) -> None:
    """Search, training and export: the file has the trained bytes, and they are closer."""
    from gguf import GGUFReader

    from edgetune.quantize.plan import TRAINED, read_trained
    from edgetune.stages import export
    from tests.conftest import make_model

    settings = {
        "gguf": ["Q4_K_M"], "onnx": [], "target": ["bytes=Q4_K_M"], "train": True,
        "calibration_rows": 32, "search_tokens": 256,
        "grid": {"max_steps": 40, "batch_size": 4, "learning_rate": 5e-5},
    }  # fmt: skip
    recipe = make_recipe(device_rows, quantize=settings, export={"check_rows": 4})
    model = make_model(tmp_path / "model", layers=2, hidden=256)
    merged = merge(model, recipe, tmp_path / "merge")
    plan = quantized(recipe, merged, tmp_path / "plan")
    (found,) = plan.facts["trained"]
    assert found["kept"] and found["kl_trained"] < found["kl_rounded"], found
    out = tmp_path / "files"
    out.mkdir()
    sections = Sections(recipe, ("name", "data", "quantize", "export"))
    facts = export.run(sections, {"merge": merged, "quantize": plan}, out, LOG)
    file = next(one for one in facts["files"] if one["scheme"] == "fit-Q4_K_M")
    wanted = read_trained(plan.path / TRAINED / "fit-Q4_K_M.safetensors")
    held = {tensor.name: tensor.data.tobytes() for tensor in GGUFReader(out / file["path"]).tensors}
    assert all(held[name] == raw.tobytes() for name, raw in wanted.items())
    assert file["checks"]["token_ids_equal"]
    stock = next(one for one in facts["files"] if one["scheme"] == "Q4_K_M")
    assert file["checks"]["kl_divergence"] < stock["checks"]["kl_divergence"]


def test_rows_that_judge_are_not_calibrated_on(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(device_rows, quantize={"gguf": ["Q8_0"], "onnx": []})
    assert recipe.data is not None
    same = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"test": str(device_rows)})}
    )
    with pytest.raises(InputError, match="among those that judge"):
        quantized(same, merge(tiny_model, recipe, tmp_path / "merge"), tmp_path / "plan")
