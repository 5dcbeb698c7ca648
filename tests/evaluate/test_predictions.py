"""Prediction sets are read back as they were written."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetune.data.rows import Message, Row
from edgetune.errors import InputError
from edgetune.evaluate.predictions import (
    PredictionWriter,
    Question,
    read_predictions,
    write_prompt_text,
)

QUESTIONS = [
    Question("light\u2028on?\n", "yes", where="a.jsonl:1", columns={"room": "küche", "n": 2}),
    Question("", "no", leaked=True),
]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path / "p", QUESTIONS, confidential=True, labels=["yes", "no"])
    writer.add("a b", "base", ["yes\u2028\r\n", ""])
    writer.add("a_b", "file", ["no", "no"], [[-0.5, -1.5]])
    assert read_predictions(tmp_path / "p") is None  # not before it is whole
    writer.finish()
    found = read_predictions(tmp_path / "p")
    assert found is not None and found.confidential and found.labels == ["yes", "no"]
    assert found.questions() == QUESTIONS
    first, second = found.models
    assert (first.name, first.role, second.name) == ("a b", "base", "a_b")
    assert found.answers(first) == ["yes\u2028\r\n", ""]
    assert found.answers(second) == ["no", "no"]
    assert found.label_log_probs(second) == [[-0.5, -1.5], None]


def test_prompts_are_listed_after_the_base_whose_answers_they_change(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, QUESTIONS)
    writer.add("base", "base", ["1", "2"])
    writer.add("base_4 examples", "teacher", ["3", "4"])  # its file has the name of a prompt's
    writer.add_prompted([("base, zero-shot", ["1", "2"]), ("base, 4 examples", ["1", "5"])])
    found = writer.finish()
    assert [(one.name, one.role) for one in found.models] == [
        ("base", "base"), ("base, 4 examples", "prompted"), ("base_4 examples", "teacher"),
    ]  # fmt: skip
    assert [found.answers(one) for one in found.models] == [["1", "2"], ["1", "5"], ["3", "4"]]


def test_broken_files_are_named(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, QUESTIONS)
    writer.add("base", "base", ["1", "2"])
    found = writer.finish()
    (tmp_path / "base.jsonl").write_text('{"answer": ')
    with pytest.raises(InputError, match=r"base\.jsonl.*cannot be read"):
        found.answers(found.models[0])
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(InputError, match=r"index\.json"):
        read_predictions(tmp_path)


def test_a_prompt_is_its_question_or_its_turns() -> None:
    system, ask = Message("system", "Be brief."), Message("user", "On?")
    said, more = Message("assistant", "Which?"), Message("user", "The lamp.")
    answer = Message("assistant", "ok")
    assert write_prompt_text(Row((system, ask, answer), None, "")) == "On?"
    several = Row((ask, said, more, answer), None, "")
    assert write_prompt_text(several) == "user: On?\n\nassistant: Which?\n\nuser: The lamp."
