"""A trial is evaluated by the best file that ships and keeps the constraints."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edgetune.errors import InputError
from edgetune.recipe.search import SearchSection
from edgetune.sweep.scoring import score_files


def model(name: str, score: float, size: int, role: str = "file", **more: float) -> dict[str, Any]:
    figures = {"exact_match": score, "perplexity": math.e, "tpot_ms_p50": 2.0, **more}
    return {
        "name": name,
        "role": role,
        "bytes": size,
        "measurements": [{"name": n, "value": v, "rows": None} for n, v in figures.items()],
    }


MODELS = [
    model("merged", 1.0, 99, "merged"),
    model("m-Q8_0.gguf", 0.9, 8),
    model("m-Q4_0.gguf", 0.8, 4),
    model("m-Q2_K.gguf", 0.8, 3),
]


def search(**more: Any) -> SearchSection:
    return SearchSection.model_validate({"tune.rank": [2, 4], **more})


def test_the_best_file_counts_not_what_it_came_from() -> None:
    found = score_files(MODELS, search(objectives=["score", "tpot", "loss"]))
    assert (found.name, found.objectives) == ("m-Q8_0.gguf", (0.9, 2.0, pytest.approx(1.0)))
    assert score_files(MODELS[:1], search()).name == "merged"


def test_a_file_within_the_constraints_goes_before_a_better_one() -> None:
    found = score_files(MODELS, search(constraints={"bytes": "<= 5 B"}))
    assert (found.name, found.is_feasible, found.excess) == ("m-Q2_K.gguf", True, {"bytes": -2.0})
    broken = score_files(MODELS, search(constraints={"score": ">= 95 %"}))
    assert not broken.is_feasible and broken.excess["score"] == pytest.approx(0.05)


def test_a_pattern_chooses_the_files() -> None:
    assert score_files(MODELS, search(file="*Q4*")).name == "m-Q4_0.gguf"
    with pytest.raises(InputError, match="no file matches"):
        score_files(MODELS, search(file="*Q5*"))


def test_what_was_not_measured_is_told() -> None:
    text = {**model("m", 0, 1), "measurements": [{"name": "perplexity", "value": 2.0}]}
    with pytest.raises(InputError, match="no score"):
        score_files([text], search())
