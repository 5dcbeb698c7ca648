"""The stages of a recipe: one for each step of its tuning, with the rows that it reads."""

from __future__ import annotations

from typing import Any

from edgetune.recipe import Recipe
from edgetune.stage_list import list_stages

OWN = {"train": "texts.txt", "format": "text"}


def inputs(tune: Any, **more: Any) -> dict[str, dict[str, str]]:
    tree = {"model": {"path": "embedded:base"}, "data": {"train": "rows.jsonl"}, "tune": tune}
    recipe = Recipe.model_validate({**tree, "merge": {}, **more})
    return {one.label: one.inputs for one in list_stages(recipe)}


def test_one_step_is_the_stage_tune() -> None:
    assert inputs({}) == {
        "prepare": {},
        "tune": {"prepare": "prepare"},
        "merge": {"prepare": "prepare", "tune": "tune"},
    }


def test_each_step_reads_the_one_before_and_its_own_rows() -> None:
    found = inputs([{"objective": "text", "data": OWN}, {"name": "first"}, {}])
    assert list(found) == ["prepare", "prepare-text", "tune-text", "tune-first", "tune", "merge"]
    assert found["tune-text"] == {"prepare": "prepare-text", "gain_rows": "prepare"}
    assert found["tune"] == {
        "prepare": "prepare", "gain_rows": "prepare", "previous": "tune-first",
    }  # fmt: skip
    assert found["merge"] == {"prepare": "prepare", "tune": "tune"}


def test_a_step_with_an_end_token_of_its_own_has_rows_of_its_own() -> None:
    found = inputs([{"end_token": "</s>"}, {"end_token": "<eos>"}])
    assert found["tune-sft"]["prepare"] == "prepare-sft" and found["tune"]["prepare"] == "prepare"
