"""Sources are named without paths, with the licence and hash that are known of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetune.artifact import Artifact
from edgetune.recipe import Recipe
from edgetune.report.provenance import count_weights, find_sources, hash_weights


def test_names_every_source(tmp_path: Path) -> None:
    base = tmp_path / "someone" / "my-base"
    base.mkdir(parents=True)
    (base / "LICENSE").write_text("MIT License")
    recipe = Recipe.model_validate(
        {
            "model": {"path": str(base)},
            "data": {"train": "embedded:devices/train.jsonl", "test": str(tmp_path / "gone.jsonl")},
            "distill": {"student": {"path": "some/student"}, "prompts": str(tmp_path / "p.txt")},
        }
    )
    parents = {"source:model": "ab", "source:student": "hub:some/student@main", "tune": "x"}
    sources = find_sources(
        recipe, {"tune": Artifact(tmp_path, "adapter", "tune", "k", {}, parents)}
    )
    found = [(s["what"], s["name"], s["licence"], s["sha256"]) for s in sources]
    assert found == [
        ("base model", "my-base", "MIT", "ab"),
        ("student", "some/student", "not stated", "hub:some/student@main"),
        ("prompts", "p.txt", "not stated", None),
        ("train rows", "embedded:devices/train.jsonl", "Apache-2.0", None),
        ("test rows", "gone.jsonl", "not stated", None),
    ]
    assert [s["what"] for s in sources if s["hub"]] == ["student"]
    assert str(tmp_path) not in str(sources)


def test_the_licence_that_a_recipe_states_is_that_of_the_source() -> None:
    train = [{"path": "hf:some/rows", "license": "CC-BY-4.0"}, "embedded:devices/train.jsonl"]
    recipe = Recipe.model_validate({"model": {"path": "embedded:base"}, "data": {"train": train}})
    rows = [source for source in find_sources(recipe, {}) if source["what"] == "train rows"]
    assert [(one["name"], one["hub"], one["licence"], one["said_in"]) for one in rows] == [
        ("some/rows", True, "CC-BY-4.0", "the recipe"),
        ("embedded:devices/train.jsonl", False, "Apache-2.0", "edgetune"),
    ]


def test_counts_the_weights_of_the_merged_model(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    merge = Artifact(tiny_model, "model", "merge", "key", facts={"folder": "."})
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert count_weights(merge) == sum(p.numel() for p in model.parameters())
    assert count_weights(None) is None
    assert count_weights(Artifact(tiny_model / "none", "model", "merge", "key")) is None


@pytest.mark.parametrize("name", ["adapter/adapter_model.safetensors", "model/config.json"])
def test_hashes_of_weights_alone(tmp_path: Path, name: str) -> None:
    made = Artifact(tmp_path, "model", "merge", "key", {name: {"sha256": "ab", "bytes": 1}})
    assert hash_weights(made) == ({name: "ab"} if name.endswith(".safetensors") else {})
