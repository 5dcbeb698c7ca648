"""A teacher is found by what its path holds, and asked in the prompt format that belongs to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetune.artifact import commit_part, open_part
from edgetune.data.rows import Message
from edgetune.errors import InputError
from edgetune.models.ref import ModelRef
from edgetune.recipe import DataSection
from edgetune.synthesize.teacher import CUT_OFF, Question, find_model, open_local
from tests.tiny_models import make_adapter

DATA = DataSection(train="rows.jsonl", system="Be brief.")


def test_an_artifact_of_tune_is_its_base_with_the_adapter(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    adapter = make_adapter(tiny_model, open_part(out, "k") / "adapter")
    facts = {
        "model": ModelRef(tiny_model, adapter).to_json(adapter.parent),
        "contract": str(tiny_model),
    }
    commit_part(out, "adapter", "tune", "k", {}, facts)
    ref, contract = find_model(str(out))
    assert ref.adapter == out / "adapter" and contract == tiny_model
    asked = [Question((Message("user", "light kitchen 20"),), 3, 0.0)]
    teachers = [open_local(str(path), DATA, "cpu", 4, 1.0) for path in (out, tiny_model)]
    assert teachers[0].origin["sha256"] != teachers[1].origin["sha256"]
    assert [teacher.ask(asked)[0].fault for teacher in teachers] == [CUT_OFF, CUT_OFF]
    (out / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        find_model(str(out))


def test_the_system_message_is_put_where_a_prompt_has_none(tiny_model: Path) -> None:
    teacher = open_local(str(tiny_model), DATA, "cpu", 4, 1.0)
    turns = teacher.with_system([Message("user", "a")])
    assert turns == (Message("system", "Be brief."), Message("user", "a"))
    own = (Message("system", "Mine."), Message("user", "a"))
    assert teacher.with_system(own) == own


def test_equal_questions_of_other_numbers_are_drawn_apart(tiny_model: Path) -> None:
    teacher = open_local(str(tiny_model), DATA, "cpu", 4, 1.0)
    one = Question((Message("user", "light"),), 1, 1.0)
    ids = [
        teacher._generate([teacher._encode(one)] * 2, 1.0, (number, number + 1))
        for number in (1, 2)
    ]
    assert ids[0][0] != ids[0][1] and ids[0][1] == ids[1][0]
    assert teacher._generate([teacher._encode(one)], 0, (1,)) == teacher._generate(
        [teacher._encode(replace(one, number=9))], 0, (9,)
    )
