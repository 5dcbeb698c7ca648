"""The section data.clean: safe defaults, and bounds that hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.recipe.load import load_recipe

MINIMAL = "model: {path: m}\ndata: {train: t}\ntune: {learning_rate: 1e-5}\n"


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(MINIMAL)
    return path


def test_encoding_alone_is_changed_by_default(recipe_path: Path) -> None:
    clean = load_recipe(recipe_path)[0].data.clean
    changing = {name for name, value in clean if value == "fix"}
    assert changing == {"encoding"}


def test_off_is_read_as_yaml_has_it(recipe_path: Path) -> None:
    clean = load_recipe(recipe_path, ["data.clean.pii=off", "data.clean.encoding=warn"])[
        0
    ].data.clean
    assert (clean.pii, clean.encoding) == ("off", "warn")
    with pytest.raises(InputError, match=r"data\.clean\.pii"):
        load_recipe(recipe_path, ["data.clean.pii=on"])
    with pytest.raises(InputError, match=r"data\.clean\.labels"):
        load_recipe(recipe_path, ["data.clean.labels=fix"])


def test_bounds_that_exclude_every_row_are_refused(recipe_path: Path) -> None:
    bounds = ["data.clean.min_characters=9", "data.clean.max_characters=8"]
    with pytest.raises(InputError, match=r"min_characters \(9\) is above max_characters \(8\)"):
        load_recipe(recipe_path, bounds)
