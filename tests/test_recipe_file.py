"""Recipes: every key is known, every fault is named, every value keeps its origin."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from edgetune.errors import InputError
from edgetune.recipe import Recipe, Sections
from edgetune.recipe_file import dump_recipe, load_recipe

MINIMAL = "model: {path: m}\ndata: {train: t}\ntune: {learning_rate: 1e-5}\n"


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(MINIMAL)
    return path


def test_numbers_written_as_users_write_them(recipe_path: Path) -> None:
    recipe, _ = load_recipe(recipe_path)
    assert recipe.tune is not None and recipe.tune.learning_rate == 1e-5


def test_unknown_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: {path: m}\ntune: {learnin_rate: 1.0}\n")
    with pytest.raises(InputError, match=r"tune\.learnin_rate.*did you mean 'learning_rate'"):
        load_recipe(path)


def test_unknown_key_in_a_list_and_in_a_nested_section(recipe_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'layers'"):
        load_recipe(recipe_path, ["distill.student.layer=3"])
    with pytest.raises(InputError, match="did you mean 'measurement'"):
        load_recipe(recipe_path, ["report.gates=[{measurment: exact_match}]"])


def test_value_out_of_range_names_the_key(recipe_path: Path) -> None:
    with pytest.raises(InputError, match=r"tune\.rank"):
        load_recipe(recipe_path, ["tune.rank=0"])
    with pytest.raises(InputError, match=r"quantize\.gguf"):
        load_recipe(recipe_path, ["quantize.gguf=[Q9_9]"])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model: [", "not valid YAML"),
        ("model: {path: m}\nmodel: {path: n}\n", "given twice"),
        ("- a\n", "mapping of sections"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_faulty_files(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=fault):
        load_recipe(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_recipe(tmp_path / "none.yaml")


def test_variables_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: {path: '${EDGETUNE_X:-../there}/m'}\n")
    assert load_recipe(path)[0].model.path == "../there/m"
    monkeypatch.setenv("EDGETUNE_X", "/here")
    assert load_recipe(path)[0].model.path == "/here/m"


def test_set_wins_over_flags_and_file_and_origins_say_so(recipe_path: Path) -> None:
    recipe, origins = load_recipe(
        recipe_path, ["tune.rank=4"], {"tune.rank": 8, "tune.epochs": 2.0, "seed": None}
    )
    assert recipe.tune is not None
    assert (recipe.tune.rank, recipe.tune.epochs) == (4, 2.0)
    text = dump_recipe(recipe, origins)
    assert "rank: 4  # --set" in text
    assert "epochs: 2.0  # flag" in text
    assert f"learning_rate: 1.0e-05  # {recipe_path}" in text
    assert "seed: 0  # default" in text
    assert Recipe.model_validate(yaml.safe_load(text)) == recipe


def test_one_place_decides_the_codes(recipe_path: Path) -> None:
    for settings, decider in (
        ([], "gptq"), (["quantize.train=true"], "grid"), (["quantize.method=grid"], "grid"),
        (["quantize.method=ggml"], "ggml"),
        (["quantize.method=autoround"], "autoround"),
        (["quantize.method=grid", "quantize.train=true"], "grid"),
    ):  # fmt: skip
        recipe, _ = load_recipe(recipe_path, ["quantize.imatrix=true", *settings])
        assert recipe.quantize is not None and recipe.quantize.decider == decider
    for method in ("autoround", "ggml"):
        with pytest.raises(InputError, match=f"train: true and method: {method} both") as caught:
            load_recipe(recipe_path, [f"quantize.method={method}", "quantize.train=true"])
        assert "given" not in str(caught.value) and "quantize" in caught.value.where


@pytest.mark.parametrize(
    ("setting", "decider"),
    [("grid.scales=learned", "grid"), ("autoround.iterations=60", "autoround")],
)
def test_settings_of_another_decider_are_refused(
    setting: str, decider: str, recipe_path: Path
) -> None:
    with pytest.raises(InputError, match=f"only method: {decider} reads.*the method is gptq"):
        load_recipe(recipe_path, [f"quantize.{setting}"])
    recipe, _ = load_recipe(recipe_path, [f"quantize.{setting}", f"quantize.method={decider}"])
    assert recipe.quantize is not None and recipe.quantize.decider == decider


def test_sections_hide_what_a_stage_did_not_declare(recipe_path: Path) -> None:
    recipe, _ = load_recipe(recipe_path)
    sections = Sections(recipe, ("tune",))
    assert sections.tune is recipe.tune
    with pytest.raises(AttributeError, match="did not declare"):
        _ = sections.data


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda p: p.name)
def test_recipes_that_ship_are_valid(path: Path) -> None:
    recipe, _ = load_recipe(path)
    assert recipe.name == path.stem


def test_every_key_is_read_somewhere() -> None:
    """A key that no line of the package reads would be a silent no-op."""
    code = "".join(p.read_text() for p in Path("edgetune").rglob("*.py") if p.name != "recipe.py")

    def keys(model: type) -> list[str]:
        found = []
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            found.append(name)
            for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if hasattr(kind, "model_fields"):
                    found += keys(kind)
        return found

    unread = {name for name in keys(Recipe) if f".{name}" not in code and f'"{name}"' not in code}
    assert not unread
