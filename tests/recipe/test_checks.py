"""No key of a recipe is set in vain: a table says what reads it, and the table is whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgetune.errors import InputError
from edgetune.recipe import Recipe
from edgetune.recipe.checks import ALWAYS, USES, check_use
from edgetune.recipe.keys import walk_keys
from edgetune.recipe.load import check_tree, dump_recipe

BASE: dict[str, Any] = {"model": {"path": "embedded:base"}, "data": {"train": "rows.jsonl"}}

# Key, a value that is not its default, and settings under which nothing reads it.
IGNORED: list[tuple[str, Any, dict[str, Any]]] = [
    ("model.revision", "v2", {}),
    ("data.columns", {"prompt": "a", "completion": "b"}, {"data.format": "messages"}),
    ("data.chunk", {"tokens": 128}, {"data.format": "messages"}),
    ("data.validation_fraction", 0.2, {"data.validation": "other.jsonl"}),
    ("data.split.group_by", "cluster", {"data.validation": "other.jsonl"}),
    ("data.split.stratify", True, {"data.validation": "other.jsonl"}),
    ("data.system", "Be brief.", {"data.format": "text"}),
    ("data.clean.languages", ["en"], {"data.clean.language": "off"}),
    ("data.clean.min_characters", 9, {"data.clean.length": "off"}),
    ("data.clean.max_characters", 9, {"data.clean.length": "off"}),
    ("data.clean.names_model", "names/", {"data.clean.pii": "off"}),
    ("data.clean.max_repetition", 0.2, {"data.clean.repetition": "off"}),
    (
        "data.clean.similarity",
        0.9,
        {"data.clean.near_duplicates": "off", "data.clean.leakage": "off"},
    ),
    *(
        (f"synthesize.{key}", value, {"synthesize.teacher": "m"})
        for key, value in {
            "model": "m",
            "key_env": "KEY",
            "concurrency": 2,
            "timeout": 5.0,
            "retries": 1,
            "max_requests": 9,
            "failures_of": "m",
            "examples": 2,
            "rank": "reference",
            "template.check": "right?",
            "validators.checker": "m",
            "validators.samples": 3,
            "compare": True,
        }.items()
    ),
    (
        "synthesize.validators.similarity",
        0.9,
        {"synthesize.validators.leakage": False, "synthesize.validators.duplicate": False},
    ),
    ("synthesize.template.ask", "say", {"synthesize.task": "preferences"}),
    *(
        (f"{section}.{key}", value, {how: "full"})
        for section, how in (("tune", "tune.method"), ("distill", "distill.train"))
        for key, value in {
            "rank": 8,
            "alpha": 8.0,
            "dropout": 0.1,
            "target_modules": ["q_proj"],
            "rank_pattern": {"q_proj": 4},
            "alpha_pattern": {"q_proj": 4.0},
            "rslora": True,
            "dora": True,
            "init": "pissa",
            "lora_plus_ratio": 16.0,
            "modules_to_save": ["lm_head"],
        }.items()
    ),
    ("tune.rank_budget", 8, {}),
    ("tune.base", "gguf:base.gguf", {"tune.method": "lora"}),
    ("export.adapter", True, {"tune.base": "gguf:base.gguf"}),
    ("tune.train_on", "all", {"tune.objective": "text"}),
    ("tune.neftune_alpha", 5.0, {"tune.objective": "text"}),
    ("tune.best_by", "exact_match", {"tune.objective": "text", "tune.patience": 2}),
    ("tune.best_rows", 9, {}),
    ("distill.rank_budget", 8, {"distill.train": "lora"}),
    ("tune.warmup_ratio", 0.1, {"tune.scheduler": "constant"}),
    ("tune.min_lr_ratio", 0.2, {}),
    ("distill.warmup_ratio", 0.1, {"distill.scheduler": "constant"}),
    ("distill.min_lr_ratio", 0.2, {"distill.scheduler": "linear"}),
    ("tune.patience", 3, {"tune.objective": "grpo"}),
    ("tune.eval_rows", 9, {"tune.objective": "rloo"}),
    ("tune.grpo.max_kl", 1.0, {"tune.objective": "grpo"}),
    ("tune.rloo.max_kl", 1.0, {"tune.objective": "rloo", "tune.rloo.beta": 0.0}),
    ("tune.grpo", {"rewards": ["json"]}, {"tune.objective": "rloo"}),
    ("tune.rloo", {"rewards": ["json"]}, {}),
    ("tune.pack_length", 512, {"tune.packing": False}),
    ("tune.packing", False, {"tune.objective": "dpo"}),
    ("tune.dpo", {"beta": 0.2}, {"tune.objective": "kto"}),
    ("tune.orpo", {"beta": 0.2}, {"tune.objective": "dpo"}),
    ("tune.kto", {"beta": 0.2}, {}),
    ("tune.reward", {"center_rewards_coefficient": 0.01}, {"tune.objective": "dpo"}),
    ("distill.student.config", "c.json", {"distill.student.path": "m"}),
    ("distill.student.layers", 3, {"distill.student.path": "m"}),
    ("distill.student.mlp", 64, {"distill.student.config": "c.json"}),
    ("distill.student.heads", 4, {"distill.student.path": "m"}),
    ("distill.student.hidden", 64, {"distill.student.config": "c.json"}),
    ("distill.kl_weight", 0.5, {"distill.method": "sequence"}),
    ("distill.kl_warmup", 0.1, {"distill.method": "on_policy"}),
    ("distill.temperature", 2.0, {"distill.method": "sequence"}),
    ("distill.targets", "top_k", {"distill.method": "online"}),
    ("distill.samples", 32, {"distill.targets": "top_k"}),
    ("distill.top_k", 50, {}),
    ("distill.cache", "c", {"distill.method": "online"}),
    ("distill.divergence", "jsd", {}),
    ("distill.divergence_mix", 0.3, {"distill.method": "online"}),
    ("distill.max_new_tokens", 32, {}),
    ("quantize.search_tokens", 512, {}),
    ("quantize.types", ["Q4_0"], {}),
    ("quantize.calibration_rows", 9, {"quantize.imatrix": False}),
    ("quantize.qat", {"scales": "learned"}, {"quantize.budget": ["bits=5"]}),
    ("quantize.autoround", {"iterations": 9}, {"quantize.budget": ["bits=5"]}),
    ("bench.prompting.choose", "similar", {"bench.prompting.shots": [0]}),
    *(
        (f"bench.task_options.{key}", value, {"bench.task": "command"})
        for key, value in {
            "labels": ["a"],
            "out_of_scope": ["a"],
            "ignore_case": True,
            "schema_file": "s.json",
            "bleu_tokenize": "char",
            "decimal_comma": True,
            "tolerance": 0.1,
            "relative_tolerance": 0.1,
            "metric": "m.py:f",
            "metric_seconds": 1.0,
        }.items()
    ),
    ("bench.label_rows", 9, {}),
    ("bench.kv_cache", ["f16", "q8_0"], {"quantize.gguf": []}),
]


def make(settings: dict[str, Any]) -> Recipe:
    tree: dict[str, Any] = {name: dict(section) for name, section in BASE.items()}
    for key, value in settings.items():
        node = tree
        *parents, last = key.split(".")
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return check_tree(tree, "recipe")


def test_every_key_is_in_the_table_or_always_read() -> None:
    keys = set(walk_keys(Recipe))
    conditional = {k for k in keys if any(k == u or k.startswith(f"{u}.") for u in USES)}
    assert keys == conditional | (ALWAYS & keys), sorted(keys - conditional - ALWAYS)
    assert keys >= ALWAYS, sorted(ALWAYS - keys)
    assert not ALWAYS & set(USES)


def test_every_row_of_the_table_is_tried() -> None:
    own_rows = {key for key in USES if key.startswith("tune.data.")}  # copies of the rows of data
    assert {key for key, _, _ in IGNORED} == set(USES) - own_rows


@pytest.mark.parametrize(("key", "value", "settings"), IGNORED, ids=[key for key, _, _ in IGNORED])
def test_a_key_that_nothing_reads_is_refused(
    key: str, value: Any, settings: dict[str, Any]
) -> None:
    with pytest.raises(InputError) as error:  # some sections are refused as they are read
        check_use(make({**settings, key: value}))
    assert key.rpartition(".")[2] in str(error.value)
    assert re.search("nothing would read it|that only method", str(error.value))


@pytest.mark.parametrize(
    "settings",
    [
        {"tune.method": "lora", "tune.rank": 8},
        {"tune.rank": "auto", "tune.rank_budget": 4},
        {"tune.method": "lora", "tune.init": "pissa", "tune.rank_pattern": {"q_proj": 4}},
        {"distill.train": "lora", "distill.dora": True},
        {"tune.method": "full", "tune.rank": 16},  # as it is by default
        {"tune.scheduler": "cosine_with_min_lr", "tune.min_lr_ratio": 0.2},
        {"distill.scheduler": "linear", "distill.warmup_ratio": 0.2},
        {"distill.train": "qlora", "distill.rank": 4},
        {"distill.method": "online", "distill.divergence": "jsd", "distill.divergence_mix": 0.3},
        {"distill.targets": "top_k", "distill.top_k": 9},
        {"distill.prompts": "p.jsonl", "distill.max_new_tokens": 9},
        {"distill.student.path": "m", "distill.max_new_tokens": 9},
        {"quantize.budget": ["kl=0.1"], "quantize.types": ["Q4_0"], "quantize.search_tokens": 99},
        {"quantize.method": "autoround", "quantize.budget": ["bits=5"],
         "quantize.autoround": {"iterations": 3}},
        {"quantize.method": "qat", "quantize.budget": ["bits=5"],
         "quantize.qat": {"max_steps": 3}},
        {"tune.objective": "dpo", "tune.dpo": {"loss_type": "ipo", "beta": 0.2}},
        {"bench.kv_cache": ["q8_0"]},
        {"bench.task_options.labels": ["a"], "bench.task_options.metric": "m.py:f"},  # of auto
        {"bench.task": "numeric", "bench.task_options.tolerance": 0.1},
        {"quantize.gguf": [], "quantize.budget": ["bits=5"], "bench.kv_cache": ["q8_0"]},
        {"data.columns": {"prompt": "a", "completion": "b"}},
        {"model.path": "someone/model", "model.revision": "v2"},
    ],
)  # fmt: skip
def test_a_key_that_is_read_passes(settings: dict[str, Any]) -> None:
    check_use(make(settings))


def test_a_resolved_recipe_can_be_run_again() -> None:
    for settings in ({"tune.method": "full"}, {"distill.method": "sequence", "quantize.gguf": []}):
        text = dump_recipe(make({**settings, "bench.repeats": 3, "merge.dtype": "float32"}), {})
        check_use(check_tree(yaml.safe_load(text), "resolved"))


def test_other_sections_are_not_looked_at() -> None:
    recipe = make({"tune.method": "full", "tune.rank": 8})
    check_use(recipe, ("data", "merge"))
    with pytest.raises(InputError):
        check_use(recipe, ("data", "tune"))


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_our_own_recipes_set_nothing_in_vain(path: Path) -> None:
    check_use(check_tree(yaml.safe_load(path.read_text()), str(path)))
