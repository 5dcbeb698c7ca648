"""Recipes: every key is known, every fault is named, every value keeps its origin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from edgetune.errors import InputError
from edgetune.recipe import Recipe, Sections, list_sources
from edgetune.recipe.checks import check_use
from edgetune.recipe.load import check_tree, dump_recipe, load_recipe

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


@pytest.mark.parametrize(
    ("setting", "method"),
    [("qat.scales=learned", "qat"), ("autoround.iterations=60", "autoround")],
)
def test_settings_of_another_method_are_refused(
    setting: str, method: str, recipe_path: Path
) -> None:
    with pytest.raises(InputError, match=f"only method: {method} reads.*method is gptq"):
        load_recipe(recipe_path, [f"quantize.{setting}"])
    recipe, _ = load_recipe(recipe_path, [f"quantize.{setting}", f"quantize.method={method}"])
    assert recipe.quantize is not None and recipe.quantize.method == method


def test_weight_decay_in_qat_is_refused(recipe_path: Path) -> None:
    settings = ["quantize.method=qat", "quantize.budget=[bits=4.5]", "quantize.qat.max_steps=3"]
    load_recipe(recipe_path, settings)
    with pytest.raises(InputError, match="no weight decay"):
        load_recipe(recipe_path, [*settings, "quantize.qat.weight_decay=0.01"])


def test_sections_hide_what_a_stage_did_not_declare(recipe_path: Path) -> None:
    recipe, _ = load_recipe(recipe_path)
    sections = Sections(recipe, ("tune",))
    assert sections.tune is recipe.tune
    with pytest.raises(AttributeError, match="did not declare"):
        _ = sections.data
    without = Sections(recipe.model_copy(update={"tune": None}), ("tune",))
    assert sections.has("tune") and not without.has("tune")
    with pytest.raises(AttributeError, match="the recipe has no section 'tune'"):
        _ = without.tune


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


@pytest.mark.parametrize(
    ("text", "rank", "learning_rate"),
    [
        ("tune: &t {learning_rate: 1e-4, rank: 8}\ndistill: {<<: *t}\n", 8, 1e-4),
        ("tune: &t {learning_rate: 1e-4, rank: 8}\ndistill: {rank: 4, <<: *t}\n", 4, 1e-4),
        # Of several, the first named wins, as in PyYAML.
        (
            "tune: &t {learning_rate: 1e-4, rank: 8}\nmerge: {}\n"
            "distill: {<<: [{rank: 2}, *t], learning_rate: 3e-4}\n", 2, 3e-4,
        ),
        # An anchor that itself merges another is no repetition of a key.
        (
            "tune: &t {<<: &u {rank: 8, learning_rate: 1e-3}, rank: 6}\ndistill: {<<: *t}\n",
            6, 1e-3,
        ),
    ],
)  # fmt: skip
def test_merge_keys(tmp_path: Path, text: str, rank: int, learning_rate: float) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: {path: m}\n" + text)
    distill = load_recipe(path, ["distill.train=lora"])[0].distill
    assert distill is not None
    assert (distill.rank, distill.learning_rate) == (rank, learning_rate)


@pytest.mark.parametrize("shared", ["<<: *t", "<<: [{patience: 3}, *t]", "<<: {<<: *t}"])
def test_a_section_takes_of_a_merge_key_what_it_reads(tmp_path: Path, shared: str) -> None:
    path = tmp_path / "r.yaml"
    text = "model: {path: m}\ntune: &t {learning_rate: 1e-4, rank: 8}\ndistill: {%s}\n"
    path.write_text(text % shared)
    recipe, origins = load_recipe(path)
    check_use(recipe)
    assert recipe.tune is not None and recipe.distill is not None
    assert (recipe.tune.rank, recipe.distill.learning_rate) == (8, 1e-4)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(dump_recipe(recipe, origins))
    check_use(load_recipe(resolved)[0])
    # What is written in the section itself, or on the command line, is meant for it.
    path.write_text(text % f"{shared}, rank: 4")
    with pytest.raises(InputError, match="nothing would read it"):
        check_use(load_recipe(path)[0])
    path.write_text(text % shared)
    with pytest.raises(InputError, match="nothing would read it"):
        check_use(load_recipe(path, ["distill.rank=4"])[0])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tune: {<<: 3}\n", "not valid YAML.*mapping"),
        ("tune: &t {rank: 3}\ndistill: {<<: *t, <<: *t}\n", "'<<' is given twice"),
        ("tune: &t {rank: 3}\ndistill: {<<: *t, rank: 1, rank: 2}\n", "'rank' is given twice"),
        ("tune: &t {rank: *t}\n", "not valid YAML"),
    ],
)
def test_faulty_merge_keys(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: {path: m}\n" + text)
    with pytest.raises(InputError, match=fault):
        load_recipe(path)


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("data.system=# Be short", "# Be short"),
        ("data.system=yes: {no}", "yes: {no}"),
        ("data.system=0123", "0123"),
        ("data.system=1e5", "1e5"),
        ("data.system=[a, b]", "[a, b]"),
        ("data.system={a: b}", "{a: b}"),
        ("data.system=a # b", "a # b"),
        ("data.system=true", "true"),
        ("data.system=*star", "*star"),
        ("data.system='# quoted'", "# quoted"),
        ('data.system="a\\nb"', "a\nb"),
        ("data.system='a' and 'b'", "'a' and 'b'"),
        ("data.system=2026-11-20", "2026-11-20"),
        ("data.system=a=b", "a=b"),
        ("data.system=null", None),
        ("tune.end_token=[END]", "[END]"),
        ("name=007", "007"),
        ("model.revision=1e10", "1e10"),
        ("data.columns.prompt=#q", "#q"),
    ],
)
def test_set_keeps_text_as_written(recipe_path: Path, setting: str, kept: str | None) -> None:
    columns = ["data.columns.prompt=a", "data.columns.completion=b"]
    recipe, _ = load_recipe(recipe_path, [*columns, setting])
    found: object = recipe
    for part in setting.partition("=")[0].split("."):
        found = getattr(found, part)
    assert found == kept
    assert yaml.safe_load(dump_recipe(recipe, {})) == recipe.model_dump(mode="json")


@pytest.mark.parametrize(
    ("setting", "fault", "hint"),
    [
        ("tune.max_steps=#5", "comment", "tune.max_steps"),
        ("model.path=", "empty", ""),
        ("quantize.gguf=Q4_0", "tuple", r"quantize.gguf=\[…, …\]"),
        ("quantize.gguf=[Q4_0", "not a YAML value", "quantize.gguf"),
    ],
)
def test_set_says_what_is_wrong(recipe_path: Path, setting: str, fault: str, hint: str) -> None:
    with pytest.raises(InputError, match=fault) as raised:
        load_recipe(recipe_path, [setting])
    assert re.search(hint, str(raised.value))


@pytest.mark.parametrize("value", ["yes", "0123", "2026-11-20", "[a]", "{a: b}"])
def test_text_that_yaml_reads_as_something_else_is_quoted(tmp_path: Path, value: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"model: {{path: m}}\ndata:\n  train: t\n  system: {value}\n")
    with pytest.raises(InputError, match=r"data\.system") as raised:
        load_recipe(path)
    assert "quotes" in raised.value.hint


def test_unset_variables_are_refused(
    tmp_path: Path, recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGETUNE_Y", raising=False)
    path = tmp_path / "v.yaml"
    path.write_text("model: {path: m}\ndata: {train: '${EDGETUNE_Y}/t.jsonl'}\n")
    with pytest.raises(InputError, match="EDGETUNE_Y") as raised:
        load_recipe(path)
    assert raised.value.where == f"{path}:data.train" and ":-" in raised.value.hint
    with pytest.raises(InputError, match="EDGETUNE_Y") as raised:
        load_recipe(recipe_path, ["data.system=at ${EDGETUNE_Y}"])
    assert "data.system" in raised.value.where
    for text in ("${EDGETUNE_Y-x}", "${EDGETUNE_Y:-${OTHER}}", "${}"):
        with pytest.raises(InputError, match=r"\$\{"):
            load_recipe(recipe_path, [f"data.system={text}"])
    monkeypatch.setenv("EDGETUNE_Y", "")
    assert load_recipe(path)[0].data.train == "/t.jsonl"  # type: ignore[union-attr]
    recipe, origins = load_recipe(recipe_path, ["data.system=say $${EDGETUNE_Y} $x"])
    assert recipe.data is not None and recipe.data.system == "say ${EDGETUNE_Y} $x"
    again = tmp_path / "again.yaml"
    again.write_text(dump_recipe(recipe, origins))
    assert load_recipe(again)[0] == recipe


def test_home_is_expanded_in_paths(recipe_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    settings = ["model.path=~/m", "data.train=~/t.jsonl", "data.test=~/*.csv", "data.system=~/x"]
    settings += ["distill.student.path=~/s", "distill.prompts=~/p", "distill.cache=~/c"]
    recipe, _ = load_recipe(recipe_path, settings)
    assert recipe.data is not None and recipe.distill is not None
    assert (recipe.model.path, recipe.data.train) == ("/home/ann/m", "/home/ann/t.jsonl")
    assert (recipe.data.test, recipe.data.system) == ("/home/ann/*.csv", "~/x")
    assert recipe.distill.student.path == "/home/ann/s"
    assert (recipe.distill.prompts, recipe.distill.cache) == ("/home/ann/p", "/home/ann/c")


def test_a_source_is_a_path_or_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "model: {path: m}\ndata:\n  train: [a.jsonl, {path: b.csv, weight: 2, license: MIT}]\n"
    )
    recipe, origins = load_recipe(path)
    assert recipe.data is not None
    first, second = list_sources(recipe.data.train)
    assert (first.path, first.weight, second.license) == ("a.jsonl", 1, "MIT")
    again = check_tree(yaml.safe_load(dump_recipe(recipe, origins)), "resolved")
    assert list_sources(again.data.train) == (first, second)  # type: ignore[union-attr]
    for text, weight in (
        ("data.train={path: c.csv, weight: 0.5}", 0.5), ("data.train=[{path: c, weight: 3}]", 3),
    ):  # fmt: skip
        found = load_recipe(path, [text])[0].data
        assert found and [source.weight for source in list_sources(found.train)] == [weight]
    path.write_text("model: {path: m}\ndata: {train: a.jsonl}\n")
    found = load_recipe(path, ["data.train.weight=2"])[0].data
    assert found and list_sources(found.train)[0].weight == 2
    assert list_sources(found.train)[0].path == "a.jsonl"


@pytest.mark.parametrize(
    ("train", "key", "what"),
    [
        ("{path: a, weight: 0}", "data.train.weight", "greater than 0"),
        ("[a, {path: b, limit: x}]", "data.train.1.limit", "valid integer"),
        ("{path: 'sqlite:///a.db'}", "data.train", "go together"),
        ("{path: a.csv, query: SELECT 1}", "data.train", "go together"),
    ],
)
def test_a_fault_in_a_source_names_its_key(tmp_path: Path, train: str, key: str, what: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"model: {{path: m}}\ndata: {{train: {train}}}\n")
    with pytest.raises(InputError, match=what) as raised:
        load_recipe(path)
    assert raised.value.where == f"{path}:{key}"
