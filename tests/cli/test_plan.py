"""``edgetune plan``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from edgetune.cli import cli
from edgetune.errors import InputError


@pytest.fixture
def recipe(tiny_model: Path, device_rows: Path, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    content = {
        "name": "plan",
        "model": {"path": str(tiny_model), "device": "cpu"},
        "data": {"train": str(device_rows), "max_length": 128},
        "tune": {"batch_size": 4, "packing": False},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_plan_is_printed_and_nothing_is_written(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(cli, ["plan", str(recipe), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.output.splitlines()[-1])
    (stage,) = plan["stages"]
    assert stage["stage"] == "tune" and stage["ram_bytes"] > 500e6
    assert "tune" in result.output and "RAM" in result.output
    assert not out.exists()


def test_what_does_not_fit_is_refused_with_the_settings_that_would(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 605 MB: a process without its training, which no micro-batch makes smaller.
    monkeypatch.setattr("edgetune.plan.machine.read_ram", lambda: int(605e6 / 0.9))
    result = CliRunner().invoke(cli, ["plan", str(recipe)])
    assert isinstance(result.exception, InputError)
    assert "tune needs" in str(result.exception) and "RAM" in str(result.exception)
    assert "model.path" in result.exception.hint


def test_fit_prints_the_recipe_that_fits(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ram_of(*options: str) -> int:
        output = CliRunner().invoke(cli, ["plan", str(recipe), "--json", *options]).output
        return int(json.loads(output.splitlines()[-1])["stages"][0]["ram_bytes"])

    large, small = ram_of("--set", "tune.batch_size=64"), ram_of("--set", "tune.batch_size=16")
    monkeypatch.setattr("edgetune.plan.machine.read_ram", lambda: int((large + small) / 2 / 0.9))
    options = ["--set", "tune.batch_size=64", "--fit"]
    result = CliRunner().invoke(cli, ["plan", str(recipe), *options])
    assert result.exit_code == 0, result.output
    assert "changed   tune.batch_size: 64 -> " in result.output
    fitted = yaml.safe_load(result.output[result.output.index("name:") :])
    tune = fitted["tune"]
    assert tune["batch_size"] * tune["gradient_accumulation"] == 64


def test_a_run_says_the_plan_of_a_large_model_only(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgetune.log import Log
    from edgetune.plan import tell_plan
    from edgetune.recipe.load import load_recipe

    loaded, _ = load_recipe(recipe, ())

    def say(name: str, ignore: bool = False) -> str:
        path = tmp_path / name
        tell_plan(loaded, tmp_path / "run", Log(path, quiet=True), ["tune"], ignore)
        return path.read_text(encoding="utf-8") if path.exists() else ""

    assert say("small.jsonl") == ""
    monkeypatch.setattr("edgetune.plan.PLANNED_BYTES", 1)
    assert "stage" in say("large.jsonl") and "not fit" not in say("large.jsonl")
    monkeypatch.setattr("edgetune.plan.machine.read_ram", lambda: 500_000_000)
    with pytest.raises(InputError, match="tune needs"):
        say("short.jsonl")
    assert "tune needs" in say("ignored.jsonl", ignore=True)


def test_a_recipe_that_cannot_run_is_refused_as_run_refuses_it(recipe: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**content, "export": {}}))
    result = CliRunner().invoke(cli, ["plan", str(recipe)])
    assert isinstance(result.exception, InputError)
    assert "export" in str(result.exception) and "quantize" in str(result.exception)
