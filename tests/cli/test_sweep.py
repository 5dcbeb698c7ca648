"""``edgetune sweep``."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from edgetune import api
from edgetune.cli import cli
from edgetune.errors import InputError
from edgetune.recipe.load import load_recipe
from tests.sweep.conftest import small_tree


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small_tree(tiny_model, tmp_path)))
    return path


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, ["sweep", *map(str, arguments)])


def test_a_dry_run_tells_what_would_be_tried_and_writes_nothing(
    recipe: Path, tmp_path: Path
) -> None:
    done = call(recipe, "--out", tmp_path / "sweep", "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    assert "# tune.rank: 2, 4, 8 (the recipe's own: 4)" in done.output
    assert "# tune.learning_rate: 0.0001 to 0.1, log (the recipe's own: 0.0002)" in done.output
    assert json.loads(done.output.splitlines()[-1])["ok"]
    assert not (tmp_path / "sweep").exists()


def test_a_wrong_search_or_database_is_refused_before_the_work(
    recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    for arguments, said in (
        (["--set", "search.tune.rnk=[1, 2]"], "did you mean 'tune.rank'"),
        (["--set", "search.tune.alpha=[0, 2]"], "greater than 0"),
        (["--set", "tune.report_to=[trackio]"], "pip install trackio"),
        (["--storage", f"postgresql://me@/study?host={tmp_path}"], "cannot be reached"),
        (["--storage", "mysql://me@host/study"], "is no study database"),
    ):
        if "trackio" in said and importlib.util.find_spec("trackio"):
            continue
        done = call(recipe, "--out", out, *arguments)
        assert isinstance(done.exception, InputError), done.output
        assert said in str(done.exception)
        assert not list(out.glob("trials/*"))


def test_without_optuna_it_says_what_to_install(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = call(recipe, "--dry-run")
    assert "edgetune[sweep]" in str(done.exception)


def test_a_run_of_a_recipe_with_a_search_says_that_it_takes_its_own_values(recipe: Path) -> None:
    done = CliRunner().invoke(cli, ["run", str(recipe), "--dry-run"])
    assert done.exit_code == 0
    assert "this run takes the recipe's own values" in done.stderr


@pytest.mark.slow
def test_two_trials_from_python_share_what_they_can(recipe: Path, tmp_path: Path) -> None:
    found, _ = load_recipe(recipe, ["tune.max_steps=1", "search.pruner=median"])
    report = api.sweep(found, tmp_path / "sweep", trials=2)
    assert [one["state"] for one in report["trials"]] == ["complete", "complete"]
    artifacts = [path.name.partition("-")[0] for path in (tmp_path / "sweep/artifacts").iterdir()]
    assert artifacts.count("prepare") == 1 and artifacts.count("tune") == 2
    assert report["comparison"]["split"] == "validation"  # there are no test rows
    assert (tmp_path / "sweep" / "report" / "report.html").stat().st_size > 5_000
