"""A frozen head that cannot write what answers are made of is warned of before training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgetune.log import Log
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.train.answer_tokens import warn_of_untrained
from edgetune.train.tuning_step import Tuning
from tests.train.preference.preferences import Trial


def make_tuning(model: Path, rows: Path, out: Path, **settings: Any) -> tuple[Tuning, list[str]]:
    """Return a step over a base whose head has one row for the letters b and q, and warnings."""
    warnings: list[str] = []

    def listen(kind: str, fields: dict[str, Any]) -> None:
        if kind == "warning":
            warnings.append(str(fields["text"]))

    tuning = Trial(model, rows, "sft").tuning(out, **settings)
    tuning = replace(tuning, run=replace(tuning.run, log=Log(quiet=True, listener=listen)))
    head = tuning.model.get_output_embeddings().weight
    b, q = load_tokenizer(model).convert_tokens_to_ids(["b", "q"])
    with torch.no_grad():
        head[q] = head[b]
    return tuning, warnings


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [f'{{"prompt": "q {n}", "completion": "{"b" if n % 2 else "z"} z"}}' for n in range(40)]
    path.write_text("\n".join(lines))
    return path


def test_a_letter_of_half_of_the_answers_is_named(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    tuning, warnings = make_tuning(tiny_model, rows, tmp_path / "out")
    assert warn_of_untrained(tuning) == ["'b'"]  # q is of prompts alone
    assert len(warnings) == 1
    assert "'b', which up to 50% of the answers have" in warnings[0]
    assert "tune.modules_to_save: [embed_tokens, lm_head]" in warnings[0]


@pytest.mark.parametrize("settings", [{"modules_to_save": ["lm_head"]}, {"method": "full"}])
def test_a_head_that_is_trained_is_not_warned_of(
    tiny_model: Path, rows: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    tuning, warnings = make_tuning(tiny_model, rows, tmp_path / "out")
    tuning = replace(tuning, section=tuning.section.model_copy(update=settings))
    assert warn_of_untrained(tuning) == [] and warnings == []


def test_a_base_that_had_all_letters_is_not_warned_of(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    tuning = Trial(tiny_model, rows, "sft").tuning(tmp_path / "out")
    assert warn_of_untrained(tuning) == []
