"""Runs that tune over a GGUF file: from the recipe to file + adapter, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgetune.artifact import hash_file
from edgetune.cli import cli
from edgetune.errors import EdgetuneError, InputError, Unsupported
from edgetune.models.lineage import read_metadata
from edgetune.models.training_base import KEY
from edgetune.runtimes.gguf_header import open_gguf
from tests.conftest import make_model
from tests.gguf_files import make_gguf
from tests.tiny_models import make_tiny_model

STEP = {"batch_size": 4, "eval_every": 2, "save_every": 2, "learning_rate": 2e-2, "rank": 4}


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(tiny_model, tmp_path_factory.mktemp("base") / "base-Q8_0.gguf", "Q8_0", "Q4_0")


def write_recipe(folder: Path, model: Path, rows: Path, tune: Any, **more: Any) -> Path:
    recipe = {
        "name": "tiny", "seed": 1,
        "model": {"path": str(model), "device": "cpu", "compute_dtype": "float32"},
        "data": {"train": str(rows), "max_length": 48}, "tune": tune,
        "export": {"check_rows": 2}, **more,
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def run(recipe: Path, out: Path, *more: str) -> None:
    cli.main(["run", str(recipe), "--out", str(out), "--quiet", *more], standalone_mode=False)


def test_two_steps_over_one_file_ship_with_it(
    base: Path, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    steps = [
        {**STEP, "name": "first", "base": f"gguf:{base}", "max_steps": 2},
        {**STEP, "name": "second", "max_steps": 4},
    ]
    bench = {
        "task_rows": 2, "kl_rows": 4, "max_new_tokens": 2, "prompt_tokens": 4, "new_tokens": 2,
        "repeats": 1,
    }  # fmt: skip
    recipe = write_recipe(tmp_path, tiny_model, device_rows, steps, bench=bench)
    before = hash_file(base)
    run(recipe, tmp_path / "run")
    assert hash_file(base) == before
    report = json.loads((tmp_path / "run/report/report.json").read_text())
    assert report["verdict"] == "pass"
    (adapter,) = report["adapters"]
    assert adapter["kl_all_tokens"] <= 1e-5 and adapter["base"] == before
    (file,) = report["files"]
    assert (file["name"], file["path"]) == ("base-Q8_0+adapter.gguf", "base-Q8_0.gguf")
    models = {model["name"]: model for model in report["models"]}
    kl = {
        name: next(m["value"] for m in model["measurements"] if m["name"] == "kl_answer_tokens")
        for name, model in models.items()
        if model["role"] in ("base", "file")
    }
    assert kl["base-Q8_0+adapter.gguf"] < 0.01 < kl["base"]  # the adapter was loaded, and matters
    assert models["base"]["format"] == "gguf" and models["teacher"]["scheme"].endswith("+ LoRA")
    sources = {one["what"]: one["sha256"] for one in report["sources"]}
    assert sources["GGUF file tuned over"] == before
    for stage in (tmp_path / "run").glob("tune*/adapter"):
        assert read_metadata(stage)[KEY] == f"gguf:{before}"
    # The last step's artifact alone gives the same file.
    (tuned,) = (one for one in (tmp_path / "run").glob("tune-*/") if "first" not in one.name)
    alone = ["export", "--adapter", str(tuned), "--data", str(device_rows), "--quiet"]
    cli.main([*alone, "--out", str(tmp_path / "alone")], standalone_mode=False)
    (found,) = (tmp_path / "alone/gguf").glob("*-adapter.gguf")
    shipped = tmp_path / "run/files" / adapter["path"]
    assert open_gguf(found).tensors == open_gguf(shipped).tensors
    with pytest.raises(InputError, match="ships over that very file"):
        cli.main([*alone, "--scheme", "Q4_0", "--out", str(tmp_path / "no")], standalone_mode=False)
    card = (tmp_path / "run/report/MODEL_CARD.md").read_text()
    assert f"llama-cli -m base-Q8_0.gguf --lora {adapter['path']}" in card
    assert "over the weights of base-Q8_0.gguf" in card


def test_another_file_of_the_same_name_is_another_tuning(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    path = make_gguf(tiny_model, tmp_path / "base.gguf", "Q8_0")
    step = {**STEP, "base": f"gguf:{path}", "max_steps": 1}
    recipe = write_recipe(tmp_path, tiny_model, device_rows, step, export=None)
    for types, count in ((("Q8_0",), 1), (("Q4_0",), 2)):
        make_gguf(tiny_model, path, *types)
        run(recipe, tmp_path / "run")
        assert len([*(tmp_path / "run").glob("tune-*/adapter")]) == count


@pytest.mark.parametrize("name", ["merge", "distill"])
def test_what_would_make_another_model_is_refused(
    name: str, base: Path, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    step = {**STEP, "base": f"gguf:{base}"}
    more: dict[str, Any] = {"merge": {}, "quantize": {}} if name == "merge" else {"distill": {}}
    recipe = write_recipe(tmp_path, tiny_model, device_rows, step, **more)
    with pytest.raises(InputError, match=f"'{name}' has nothing to work on") as caught:
        run(recipe, tmp_path / "run")
    assert "leave out the sections" in str(caught.value)
    assert not [*tmp_path.glob("run/tune*")]


def test_files_that_are_not_of_the_model_are_refused_before_the_work(
    base: Path, device_rows: Path, tmp_path: Path
) -> None:
    deeper = make_model(tmp_path / "deeper", layers=3)
    gpt2 = make_tiny_model("gpt2", tmp_path / "gpt2", real_tokenizer=False)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(base.read_bytes()[:5000])
    cases: list[tuple[Path, Path, type[EdgetuneError], str]] = [
        (deeper, base, InputError, "block_count is 2, and the folder's 3"),
        (deeper, broken, InputError, "broken GGUF file"),
        (deeper, tmp_path / "none.gguf", InputError, "no such GGUF file"),
        (gpt2, base, Unsupported, "over a GGUF file of a gpt2"),
    ]
    for model, path, kind, what in cases:
        step = {**STEP, "base": f"gguf:{path}"}
        recipe = write_recipe(tmp_path, model, device_rows, step)
        with pytest.raises(kind, match=what):
            run(recipe, tmp_path / "run")
        assert not [*tmp_path.glob("run/*-*")]


def test_settings_that_do_not_go_with_it_are_refused(
    base: Path, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    step = {**STEP, "base": f"gguf:{base}"}
    cases = [
        ({**step, "method": "lora"}, "it needs tune.method: qlora"),
        ({**step, "base": str(base)}, "tune.base"),
        ({**step, "dora": True}, "dora"),
        ([step, {**step, "name": "next", "base": "gguf:other.gguf"}], "leave base out"),
    ]
    for tune, what in cases:
        recipe = write_recipe(tmp_path, tiny_model, device_rows, tune)
        with pytest.raises(InputError, match=what):
            run(recipe, tmp_path / "run")
