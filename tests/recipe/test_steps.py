"""A tuning of several steps: their names, what they take over, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetune.errors import InputError
from edgetune.recipe import Recipe
from edgetune.recipe.checks import check_use
from edgetune.recipe.load import check_tree, dump_recipe, load_recipe

OWN = {"train": "texts.txt", "format": "text"}


def make(*steps: dict[str, Any], **more: Any) -> Recipe:
    tree = {"model": {"path": "embedded:base"}, "data": {"train": "rows.jsonl"}, **more}
    return check_tree({**tree, "tune": list(steps)}, "recipe.yaml")


def test_a_step_goes_on_with_the_adapter_settings_of_the_one_before() -> None:
    recipe = make({"objective": "text", "method": "lora", "rank": 4, "data": OWN}, {})
    first, second = recipe.steps
    assert (first.name, second.name) == ("text", "sft")
    assert (second.method, second.rank) == ("lora", 4)
    assert recipe.tuned == second


def test_a_step_sees_itself_and_its_own_rows() -> None:
    recipe = make({"objective": "text", "data": OWN}, {})
    first, second = recipe.at_step(0), recipe.at_step(1)
    assert first.data is not None and first.data.train == "texts.txt"
    assert second.data is not None and second.data.train == "rows.jsonl"
    assert first.tokenizer.objective == "text" and recipe.tokenizer.objective == "sft"


def test_equal_names_are_numbered_and_given_ones_refused() -> None:
    assert [step.name for step in make({}, {}).steps] == ["sft", "sft2"]
    with pytest.raises(InputError, match="two steps of tune have the name 'a'"):
        make({"name": "a"}, {"name": "a"})


@pytest.mark.parametrize(("key", "value"), [("rank", 8), ("method", "full"), ("alpha", 1.0)])
def test_an_adapter_cannot_change_its_shape_between_steps(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"whose {key} is .*: leave {key} out"):
        make({"method": "lora", "rank": 4}, {key: value})


def test_an_adapter_may_follow_whole_weights() -> None:
    assert make({"method": "full"}, {"method": "lora"}).steps[1].method == "lora"


def test_no_step_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="tune has no step"):
        make()


def test_a_key_that_a_step_does_not_read_is_refused_by_its_number() -> None:
    with pytest.raises(InputError) as caught:
        check_use(make({}, {"min_lr_ratio": 0.3}))
    assert caught.value.where == "tune.1.min_lr_ratio"
    with pytest.raises(InputError) as caught:
        check_use(make({"data": {**OWN, "system": "Be brief."}}, {}))
    assert caught.value.where == "tune.0.data.system"


def test_a_setting_reaches_into_the_list(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    recipe = make({"objective": "text", "data": OWN}, {})
    path.write_text(dump_recipe(recipe, {}))
    found, origins = load_recipe(path, ["tune.1.max_steps=7", "tune.0.data.train=other.txt"])
    assert found.steps[1].max_steps == 7 and origins["tune.1.max_steps"] == "--set"
    assert found.at_step(0).data.train == "other.txt"  # type: ignore[union-attr]
    with pytest.raises(InputError, match="tune has 2 steps"):
        load_recipe(path, ["tune.2.max_steps=7"])


def test_a_written_recipe_is_read_as_the_same(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    recipe = make({"objective": "text", "method": "lora", "rank": 4, "data": OWN}, {})
    path.write_text(dump_recipe(recipe, {}))
    assert load_recipe(path)[0] == recipe


def test_a_wrong_value_of_a_step_is_named_by_its_place() -> None:
    with pytest.raises(InputError, match="'dpo'") as caught:
        make({}, {"objective": "dop"})
    assert caught.value.where == "recipe.yaml:tune.1.objective"
    with pytest.raises(InputError) as caught:
        make({}, {"objective": "dpo", "dpo": {"loss_type": "sigmod"}})
    assert caught.value.where == "recipe.yaml:tune.1.dpo.loss_type"
