"""Names of modules that a recipe gives are the model's own, or refused with the nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetune.errors import InputError
from edgetune.models.adapter_modules import check_modules, match_patterns, trains_head
from edgetune.models.load import load_base
from edgetune.recipe import TuneSection
from tests.tiny_models import make_tiny_model


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target_modules": ["q_porj"]}, ["tune.target_modules", "did you mean 'q_proj'"]),
        ({"target_modules": ["norm"]}, ["tune.target_modules", "it has", "q_proj"]),
        ({"target_modules": ["proj"]}, ["no such module", "'proj'"]),
        ({"modules_to_save": ["lm_haed"]}, ["tune.modules_to_save", "did you mean 'lm_head'"]),
        ({"rank_pattern": {"layers.[0": 4}}, ["tune.rank_pattern", "no regular expression"]),
        ({"rank_pattern": {"layers.7.*": 4}}, ["tune.rank_pattern", "layers.7"]),
        ({"alpha_pattern": {"k_poj": 4}}, ["tune.alpha_pattern", "did you mean 'k_proj'"]),
        ({"target_modules": ["lm_head"], "modules_to_save": ["lm_head"]}, ["trained twice"]),
    ],
)
def test_names_of_no_module_are_refused(
    tiny_model: Path, settings: dict[str, Any], words: list[str]
) -> None:
    model = load_base(tiny_model, False, "float32", "cpu")
    with pytest.raises(InputError) as error:
        check_modules(model, TuneSection(**settings), "tune")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_names_whole_and_ends_of_names_are_taken(tiny_model: Path) -> None:
    model = load_base(tiny_model, False, "float32", "cpu")
    for name in ("q_proj", "self_attn.q_proj", "model.layers.1.self_attn.q_proj", "embed_tokens"):
        check_modules(model, TuneSection(target_modules=[name]), "tune")
    check_modules(model, TuneSection(rank_pattern={r"layers\.[01]\..*_proj": 2}), "tune")


def test_the_longest_pattern_counts_in_whatever_order() -> None:
    names = ["model.layers.0.q_proj", "model.layers.1.q_proj", "model.layers.1.k_proj"]
    for patterns in ({"q_proj": 2, r"layers\.1\..*": 6}, {r"layers\.1\..*": 6, "q_proj": 2}):
        assert match_patterns(patterns, names) == dict(zip(names, (2, 6, 6), strict=True))


def test_pissa_over_tied_embeddings_is_refused(tmp_path: Path) -> None:
    base = make_tiny_model("qwen2", tmp_path / "base", real_tokenizer=False)
    model = load_base(base, False, "float32", "cpu")
    section = TuneSection(init="pissa", method="lora", target_modules=["q_proj", "lm_head"])
    with pytest.raises(InputError, match="embedding and head at once"):
        check_modules(model, section, "tune")


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({}, False),
        ({"target_modules": ["q_proj"]}, False),
        ({"target_modules": ["lm_head"]}, True),
        ({"modules_to_save": ["lm_head"]}, True),
        ({"modules_to_save": ["embed_tokens"]}, False),
    ],
)
def test_whether_the_head_is_trained(
    tiny_model: Path, settings: dict[str, Any], trained: bool
) -> None:
    model = load_base(tiny_model, False, "float32", "cpu")
    assert trains_head(model, TuneSection(**settings)) is trained
