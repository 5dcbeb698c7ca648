"""A sweep from trial to trial: what fails, is stopped or interrupted; the end on the test rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetune.errors import GateFailed, InputError, Interrupted, MachineFault
from edgetune.log import Log
from edgetune.recipe import Recipe
from edgetune.recipe.load import check_tree, load_recipe
from edgetune.rundir import RunDir
from edgetune.sweep import final, run
from edgetune.sweep.place import Sweep, TrialRun

Score = Callable[[Recipe], list[float]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes that were run; see :func:`answer_with`."""
    recipes: list[Recipe] = []
    answer_with(monkeypatch, recipes, lambda recipe: [float(rank(recipe) >= 4)] * 10)
    return recipes


def rank(recipe: Recipe) -> int:
    assert recipe.tuned is not None
    return recipe.tuned.rank


def answer_with(monkeypatch: pytest.MonkeyPatch, recipes: list[Recipe], score: Score) -> None:
    """Have trials give the rows that ``score`` returns, without any model."""

    def fake(recipe: Recipe, origins: Any, target: RunDir, log: Log) -> TrialRun:
        recipes.append(recipe)
        rows = score(recipe)
        figures = {"exact_match": sum(rows) / len(rows), "perplexity": math.e}
        measurements = [
            {"name": name, "value": value, "n": len(rows), "ci95": None, "rows": rows,
             "rows_sha256": str(recipe.data and recipe.data.max_length)}
            for name, value in figures.items()
        ]  # fmt: skip
        model = {"name": "m", "role": "file", "bytes": 9, "measurements": measurements}
        return TrialRun({}, [model])

    monkeypatch.setattr(run, "run_trial", fake)
    monkeypatch.setattr(final, "run_trial", fake)


def make_sweep(small: Recipe, folder: Path, total: int = 6, **search: Any) -> Sweep:
    keys = {"tune.rank": [2, 4, 8], "tune.dropout": {"uniform": [0, 0.5]}, **search}
    tree = {**small.model_dump(mode="json", exclude_unset=True), "search": keys}
    tree["tune"]["rank"] = 2
    return Sweep(check_tree(tree, "small"), {}, folder / "sweep", total, Log(quiet=True))


def test_the_test_rows_are_looked_at_once_by_best_and_default(
    small: Recipe, tmp_path: Path, ran: list[Recipe]
) -> None:
    sweep = make_sweep(small, tmp_path)
    report = run.run_sweep(sweep, None, None)
    splits = [recipe.bench.split for recipe in ran if recipe.bench]
    assert splits == ["validation"] * 6 + ["test"] * 2
    assert {rank(recipe) for recipe in ran[6:]} == {2, rank(ran[report["best"]])}
    found = report["comparison"]
    assert (found["verdict"], found["difference"], found["looks"]) == ("better", 1.0, 1)
    assert found["p_value"] == pytest.approx(2 / 2**10)

    assert run.run_sweep(sweep, None, None)["comparison"] == found
    assert len(ran) == 8  # the same command: nothing to do
    best, _ = load_recipe(sweep.folder / "best.yaml")
    assert rank(best) == rank(ran[report["best"]]) and best.search is None
    assert best.bench == sweep.recipe.bench and best.report == sweep.recipe.report
    kept = json.loads((sweep.folder / "report" / "report.json").read_text())
    assert kept["trials"] == report["trials"]
    assert "better than the recipe" in (sweep.folder / "report" / "report.html").read_text()


def test_equal_rows_are_no_gain(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(recipe: Recipe) -> list[float]:
        on_test = recipe.bench is not None and recipe.bench.split == "test"
        return [1.0, 0.0] if on_test or rank(recipe) < 4 else [1.0, 1.0]

    answer_with(monkeypatch, [], score)
    report = run.run_sweep(make_sweep(small, tmp_path), None, None)
    found = report["comparison"]
    assert (found["verdict"], found["p_value"]) == ("within the noise", 1.0)


def test_values_of_other_rows_are_not_paired(
    small: Recipe, tmp_path: Path, ran: list[Recipe]
) -> None:
    sweep = make_sweep(small, tmp_path, **{"data.max_length": [40, 44]})
    found = run.run_sweep(sweep, None, None)["comparison"]
    assert found["verdict"] == "on other rows" and "difference" not in found


def test_a_trial_that_fails_is_kept_with_its_reason(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(recipe: Recipe) -> list[float]:
        if rank(recipe) == 8:
            raise GateFailed("the merge is too far")
        if rank(recipe) == 4:
            raise MachineFault("the memory does not suffice")
        return [1.0]

    answer_with(monkeypatch, [], score)
    report = run.run_sweep(make_sweep(small, tmp_path, total=9), None, None)
    reasons = {one["facts"].get("why") for one in report["trials"]}
    assert reasons == {None, "the merge is too far", "the memory does not suffice"}
    assert report["comparison"]["verdict"] == "the recipe itself" or report["best"]


def test_a_recipe_that_fails_itself_stops_the_sweep(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(recipe: Recipe) -> list[float]:
        raise InputError("rows are too long")

    recipes: list[Recipe] = []
    answer_with(monkeypatch, recipes, fail)
    with pytest.raises(InputError, match="too long"):
        run.run_sweep(make_sweep(small, tmp_path), None, None)
    assert len(recipes) == 1


@pytest.mark.parametrize("error", [Interrupted("stop"), MachineFault("the disk is full or fails")])
def test_an_interrupted_trial_goes_on_with_its_values(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    recipes: list[Recipe] = []

    def stop_once(recipe: Recipe) -> list[float]:
        if len(recipes) == 3:
            raise error
        return [1.0]

    answer_with(monkeypatch, recipes, stop_once)
    sweep = make_sweep(small, tmp_path, total=4)
    with pytest.raises(type(error)):
        run.run_sweep(sweep, None, None)
    report = run.run_sweep(sweep, None, None)
    assert recipes[2] == recipes[3]
    assert [one["state"] for one in report["trials"]] == ["complete"] * 4


def test_nothing_is_run_where_the_search_is_wrong(
    small: Recipe, tmp_path: Path, ran: list[Recipe]
) -> None:
    for search, said in ({"tune.rnk": [1, 2]}, "rank"), ({"tune.alpha": [-1, 2]}, "greater than 0"):
        with pytest.raises(InputError, match=said):
            run.run_sweep(make_sweep(small, tmp_path, **search), None, None)
    assert not ran and not (tmp_path / "sweep").exists()


def test_a_study_of_another_recipe_is_refused_but_wider_ranges_are_not(
    small: Recipe, tmp_path: Path, ran: list[Recipe]
) -> None:
    run.run_sweep(make_sweep(small, tmp_path, total=1), None, None)
    wider = {"tune.dropout": {"uniform": [0, 0.9]}}
    run.run_sweep(make_sweep(small, tmp_path, total=2, **wider), None, None)
    with pytest.raises(InputError, match=r"another recipe: search.tune.rank"):
        run.run_sweep(make_sweep(small, tmp_path, **{"tune.rank": [2, 4]}), None, None)
    other = small.model_copy(update={"seed": 5})
    with pytest.raises(InputError, match=r"another recipe: recipe.seed was None and is 5"):
        run.run_sweep(make_sweep(other, tmp_path), None, None)
