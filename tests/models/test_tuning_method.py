"""What a starter recipe proposes follows from the model's own sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from edgetune.cli import cli
from edgetune.models.shape import Shape
from edgetune.models.tuning_method import propose_method, saved_by_nf4
from edgetune.preflight import check_run
from edgetune.recipe import DataSection, ModelSection, Recipe, TuneSection
from tests.conftest import make_model


def shape_of(layers: int, hidden: int, packed: bool = False) -> Shape:
    tensors = {f"model.layers.{n}.mlp.up_proj.weight": (4 * hidden, hidden) for n in range(layers)}
    tensors |= {"model.embed_tokens.weight": (150_000, hidden), "model.norm.weight": (hidden,)}
    return Shape(layers, 2048, tensors, True, packed, {})


@pytest.mark.parametrize(
    ("shape", "method"),
    [
        (shape_of(6, 192), "lora"),
        (shape_of(16, 1024), "lora"),  # most of it an embedding, which NF4 leaves alone
        (shape_of(32, 4096), "qlora"),
        (shape_of(6, 192, packed=True), "qlora"),
    ],
)
def test_four_bits_are_proposed_where_they_save_much(shape: Shape, method: str) -> None:
    assert propose_method(shape)[0] == method
    assert saved_by_nf4(shape) == 6 * shape.layers * shape.tensors["model.norm.weight"][0] ** 2  # type: ignore[operator]


@pytest.mark.parametrize("layers", [1, 3, 6])
def test_init_reads_the_model(tmp_path: Path, layers: int) -> None:
    model = make_model(tmp_path / "model", layers=layers, hidden=64)
    path = tmp_path / "recipe.yaml"
    done = CliRunner().invoke(
        cli, ["init", str(path), "--model", str(model), "--data", "rows.jsonl"]
    )
    assert done.exit_code == 0, done.output
    text = path.read_text()
    assert yaml.safe_load(text)["tune"]["method"] == "lora"
    assert f"layers: {max(1, layers // 2)} " in text and f"{layers} in all" in text


def test_init_of_a_hub_id_proposes_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    assert not CliRunner().invoke(cli, ["init", str(path), "--model", "someone/model"]).exit_code
    assert yaml.safe_load(path.read_text())["tune"]["method"] == "qlora"


def test_a_plan_advises_against_rounding_for_nothing(tiny_model: Path, device_rows: Path) -> None:
    def said(method: str) -> str:
        recipe = Recipe(
            model=ModelSection(path=str(tiny_model)), data=DataSection(train=str(device_rows)),
            tune=TuneSection(method=method, rank=4),  # type: ignore[arg-type]
        )  # fmt: skip
        return " ".join(check_run(recipe, ["tune"]))

    assert "qlora saves" in said("qlora")
    assert "qlora" not in said("lora")
