"""Old names of recipe keys and values are read for one release, with one warning each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetune.errors import InputError
from edgetune.preflight import check_run
from edgetune.recipe import aliases
from edgetune.recipe.aliases import ALIASES, OMIT, Alias, apply_aliases, rename_key
from edgetune.recipe.keys import walk_keys
from edgetune.recipe.load import load_recipe
from edgetune.recipe.schema import Recipe

ROWS = (
    Alias("tune.lora_rank", "tune.rank"),
    Alias("teach", "distill"),
    Alias("tune.method", "tune.method", {"sft": "full"}),
    Alias("merge.half", "merge.dtype", {True: "bfloat16", False: OMIT}),
)


def test_each_alias_leads_to_a_key_that_exists() -> None:
    known = set(walk_keys(Recipe))
    sections = {key.rpartition(".")[0] for key in known}
    for alias in ALIASES:
        assert alias.new in known | sections
        assert alias.old == alias.new or alias.old not in known | sections


@pytest.mark.parametrize(
    "old, new",
    [
        ({"tune": {"lora_rank": 4}}, {"tune": {"rank": 4}}),
        ({"teach": {"rank": 4}}, {"distill": {"rank": 4}}),
        ({"tune": {"method": "sft"}}, {"tune": {"method": "full"}}),
        ({"merge": {"half": True}}, {"merge": {"dtype": "bfloat16"}}),
        ({"merge": {"half": False}}, {"merge": {}}),
    ],
)
def test_an_old_name_is_read_as_the_new_one_with_one_warning(old: Any, new: Any) -> None:
    assert len(apply_aliases(old, "r.yaml", ROWS)) == 1
    assert old == new
    assert apply_aliases(old, "r.yaml", ROWS) == []


def test_both_names_are_refused_where_their_values_differ() -> None:
    with pytest.raises(InputError, match="old name"):
        apply_aliases({"tune": {"lora_rank": 4, "rank": 8}}, "r.yaml", ROWS)
    assert apply_aliases({"tune": {"lora_rank": 4, "rank": 4}}, "r.yaml", ROWS)


def test_rename_key_follows_renamed_sections() -> None:
    assert rename_key("teach.rank", ROWS) == "distill.rank"
    assert rename_key("tune.lora_rank", ROWS) == "tune.rank"
    assert rename_key("merge.half", ROWS) == "merge.half"


def test_files_and_settings_with_old_names_warn_once_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aliases, "ALIASES", ROWS)
    rows = tmp_path / "t.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    path = tmp_path / "r.yaml"
    path.write_text(
        f"model: {{path: embedded:base}}\ndata: {{train: {rows}}}\ntune: {{lora_rank: 4}}\n"
    )
    recipe, origins = load_recipe(path)
    assert recipe.tune is not None and recipe.tune.rank == 4
    assert origins["tune.rank"] == str(path)
    assert [w for w in check_run(recipe, ("tune",)) if "lora_rank" in w] == list(recipe.renamed)
    assert len(recipe.renamed) == 1
    recipe, origins = load_recipe(path, ["tune.lora_rank=8", "tune.method=sft"])
    assert recipe.tune is not None and (recipe.tune.rank, recipe.tune.method) == (8, "full")
    assert origins["tune.rank"] == "--set" and len(recipe.renamed) == 3


def test_earlier_spellings_of_matrix_types_are_read() -> None:
    tree = {"quantize": {"types": ["S8_64", "Z4_32", "Q4_0"]}}
    assert len(apply_aliases(tree, "r.yaml")) == 1
    assert tree["quantize"]["types"] == ["int8_g64", "uint4_g32", "Q4_0"]


@pytest.mark.parametrize(
    "old, method",
    [
        ({"train": True}, "qat"),
        ({"train": False}, "gptq"),
        ({"method": "grid"}, "qat"),
        ({"method": "ggml"}, "rtn"),
        ({"method": "gptq", "train": True}, "qat"),  # a resolved recipe of the last release
        ({"method": "grid", "train": True}, "qat"),
    ],
)
def test_earlier_names_of_methods_are_read(old: Any, method: str) -> None:
    tree = {"quantize": old}
    assert apply_aliases(tree, "r.yaml")
    assert old.get("method", "gptq") == method and "train" not in old


def test_training_with_a_method_that_has_none_is_refused() -> None:
    for method in ("autoround", "ggml"):
        with pytest.raises(InputError, match="both are given"):
            apply_aliases({"quantize": {"method": method, "train": True}}, "r.yaml")


def test_earlier_names_of_budgets_and_qat_are_read_in_files_flags_and_settings(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "model: {path: embedded:base}\n"
        "quantize: {target: [bits=5], train: true, grid: {max_steps: 3, scales: learned}}\n"
    )
    recipe, origins = load_recipe(path)
    section = recipe.quantize
    assert section is not None and len(recipe.renamed) == 3
    assert (section.budget, section.method) == (("bits=5",), "qat")
    assert (section.qat.max_steps, section.qat.scales) == (3, "learned")
    assert origins["quantize.qat.max_steps"] == str(path)
    flags = {"quantize.target": ("kl=1",)}
    recipe, origins = load_recipe(path, ["quantize.grid.max_steps=4"], flags)
    assert recipe.quantize is not None and len(recipe.renamed) == 5
    assert (recipe.quantize.budget, recipe.quantize.qat.max_steps) == (("kl=1",), 4)
    assert (origins["quantize.budget"], origins["quantize.qat.max_steps"]) == ("flag", "--set")
