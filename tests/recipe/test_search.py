"""The section `search`: keys of the recipe with values it can have, and trials made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgetune.errors import InputError
from edgetune.recipe import Recipe
from edgetune.recipe.load import check_tree, dump_recipe, load_recipe
from edgetune.recipe.search import Choices, Range, read_limit
from edgetune.recipe.trial import check_search, own_values, trial_recipe

BASE: dict[str, Any] = {
    "model": {"path": "embedded:base"},
    "data": {"train": "rows.jsonl"},
    "tune": {"rank": 16},
    "bench": {},
}


def make(**search: Any) -> Recipe:
    return check_tree({**BASE, "search": search}, "recipe")


def test_lists_and_ranges_are_read_and_written() -> None:
    keys = {
        "tune.rank": [8, 16],
        "tune.learning_rate": {"log": ["1e-5", 1e-3]},
        "tune.dropout": {"uniform": [0, 0.1]},
        "tune.max_steps": {"int": [10, 20]},
        "quantize.gguf": [["Q8_0"], ["Q4_0"]],
    }
    recipe = make(**keys)
    assert recipe.search is not None
    assert recipe.search.space == {
        "tune.rank": Choices((8, 16)),
        "tune.learning_rate": Range("log", 1e-5, 1e-3),
        "tune.dropout": Range("uniform", 0.0, 0.1),
        "tune.max_steps": Range("int", 10, 20),
        "quantize.gguf": Choices((["Q8_0"], ["Q4_0"])),
    }
    again = check_tree(yaml.safe_load(dump_recipe(recipe, {})), "again")
    assert again.search is not None and again.search.space == recipe.search.space


def test_a_searched_key_can_be_set_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**BASE, "search": {"tune.rank": [8, 16]}}))
    sets = ["search.tune.alpha=[8, 16]", "search.constraints={bytes: <= 5 MB}"]
    search = load_recipe(path, sets)[0].search
    assert search is not None
    assert set(search.space) == {"tune.rank", "tune.alpha"}
    assert [one.value for one in search.limits] == [5e6]


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({}, "no key to vary"),
        ({"tune.rank": 8}, "needs a list of values"),
        ({"tune.rank": [8]}, "two values or more"),
        ({"tune.rank": [8, 8]}, "each of them once"),
        ({"tune.rank": {"logs": [1, 2]}}, "did you mean 'log'"),
        ({"tune.rank": {"int": [1, 2.5]}}, "two whole numbers"),
        ({"tune.rank": {"int": [9, 2]}}, "9 is not below 2"),
        ({"tune.rank": {"int": 9}}, r"int: \[low, high\]"),
        ({"tune.dropout": {"log": [0, 0.5]}}, "begins above 0"),
        ({"tune.rank": [8, 16], "objectives": ["scores"]}, "score"),
        ({"tune.rank": [8, 16], "objectives": ["score", "score"]}, "named twice"),
        ({"tune.rank": [8, 16], "constraints": {"bytes": "5 MB"}}, "not <= or >="),
        ({"tune.rank": [8, 16], "constraints": {"tpot": "<= 5 MB"}}, "one of ms"),
        ({"tune.rank": [8, 16], "objectve": ["score"]}, "did you mean 'objectives'"),
    ],
)
def test_what_is_no_search_is_refused_as_it_is_read(search: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make(**search)


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"tune.rnak": [8, 16]}, "did you mean 'tune.rank'"),
        ({"tune.rank": [8, 0]}, "greater than or equal to 1"),
        ({"tune.dropout": {"uniform": [0, 1]}}, "less than 1"),
        ({"tune.method": ["lora", "lorra"]}, "qlora"),
        ({"distill.rank": [8, 16]}, "no section 'distill'"),
        ({"report.gates": [[], []]}, "each of them once"),
        ({"name.x": ["a", "b"]}, "same in all trials"),
        ({"bench.split": ["test", "validation"]}, "same in all trials"),
    ],
)
def test_keys_and_values_that_the_recipe_cannot_have_are_refused(search: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_search(make(**search))


def test_a_search_needs_something_to_judge_by() -> None:
    tree = {**BASE, "bench": None, "search": {"tune.rank": [8, 16]}}
    with pytest.raises(InputError, match="no section 'bench'"):
        check_search(check_tree(tree, "recipe"))
    with pytest.raises(InputError, match="no section 'search'"):
        check_search(check_tree(BASE, "recipe"))


def test_a_trial_is_the_recipe_with_its_values_on_validation_rows() -> None:
    recipe = make(**{"tune.rank": [8, 16], "model.path": ["a/", "b/"]})
    trial = trial_recipe(recipe, {"tune.rank": 8, "model.path": "b/"}, "validation")
    assert trial.tune is not None and trial.bench is not None
    assert (trial.tune.rank, trial.model.path) == (8, "b/")
    assert (trial.bench.split, trial.bench.models, trial.search) == ("validation", "shipped", None)
    assert own_values(recipe) == {"tune.rank": 16, "model.path": "embedded:base"}


def test_a_step_of_a_list_is_searched_by_its_number() -> None:
    steps = [{"objective": "text", "rank": 4}, {"name": "last"}]
    search = {"tune.0.rank": [4, 16], "tune.1.learning_rate": {"log": [1e-5, 1e-3]}}
    recipe = check_tree({**BASE, "tune": steps, "search": search}, "recipe")
    check_search(recipe)
    assert own_values(recipe)["tune.0.rank"] == 4
    trial = trial_recipe(recipe, {"tune.0.rank": 16}, "validation")
    assert [step.rank for step in trial.steps] == [16, 16]  # the last goes on with that adapter
    for key in ("tune.rank", "tune.2.rank"):
        wrong = check_tree({**BASE, "tune": steps, "search": {key: [4, 16]}}, "recipe")
        with pytest.raises(InputError, match=r"of the steps|of them"):
            check_search(wrong)


def test_a_key_that_another_makes_idle_is_left_out() -> None:
    recipe = make(**{"tune.method": ["lora", "full"], "tune.rank": [8, 16]})
    trial = trial_recipe(recipe, {"tune.method": "full", "tune.rank": 8}, "validation")
    assert trial.tune is not None and trial.tune.method == "full"


def test_limits_are_read_with_their_units() -> None:
    limit = read_limit("tpot", "<= 0.5 s")
    assert (limit.excess(600), limit.excess(400)) == (100, -100)
    assert read_limit("score", ">= 90 %").excess(0.8) == pytest.approx(0.1)
