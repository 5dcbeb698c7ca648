"""What answers are rewarded for, and what is found wrong before any training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetune.data.rows import Message, Row
from edgetune.errors import InputError
from edgetune.recipe.sampling import GrpoSection
from edgetune.train.rewards import (
    REWARDS,
    NamedReward,
    Scope,
    check_rewards,
    make_rewards,
)


def row(answer: str) -> Row:
    return Row((Message("user", "ask"), Message("assistant", answer)), None, "rows.jsonl:1")


def make(*rewards: str, seconds: float = 10.0) -> list[NamedReward]:
    return make_rewards(GrpoSection(rewards=rewards), Scope(seconds=seconds), "tune.grpo")


def score(reward: str, answers: list[str], own: str = "") -> list[float]:
    return make(reward)[0]([row(own)] * len(answers), answers)


@pytest.mark.parametrize(
    ("reward", "own", "answers", "scores"),
    [
        ("json", "", ['{"a": 1}', "[1", "3", ""], [1, 0, 1, 0]),
        ("json_fields", '{"a": 1, "b": 2}', ['{"a": 1, "b": 2}', '{"a": 1}', '{"a": 1, "c": 2}'],
         [1, 0.5, 1 / 3]),
        ("json_fields", '{"a": 1}', ["[1]", "no"], [0, 0]),
        ("json_fields", "[1]", ["[1]", "[2]"], [1, 0]),
        ("regex:[a-z]+", "", ["abc", "abc1", ""], [1, 0, 0]),
        ("exact", "yes", [" yes ", "no"], [1, 0]),
        ("numeric", "so #### 1,234", ["it is 1234", "1,234.0", "12", "none"], [1, 1, 0, 0]),
        ("length:4", "", ["abcd", "abcdefgh", ""], [1, 0.5, 0]),
    ],
)  # fmt: skip
def test_scores(reward: str, own: str, answers: list[str], scores: list[float]) -> None:
    assert score(reward, answers, own) == pytest.approx(scores)


def test_a_schema_accepts_or_not(tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["on"], "properties": {"on": {"type": "boolean"}}}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    answers = ['{"on": true}', '{"on": 1}', "{}", "on"]
    assert score(f"json_schema:{file}", answers) == [1, 0, 0, 0]
    file.write_text('{"type": "nothing"}')
    with pytest.raises(InputError, match="not a JSON schema"):
        make(f"json_schema:{file}")


@pytest.mark.parametrize(
    ("reward", "fault"),
    [
        ("jsn", "no reward 'jsn'.*json"),
        ("json:3", "is written json$"),
        ("length", "is written length:CHARACTERS"),
        ("length:none", "whole number"),
        ("regex:(", "not a regular expression"),
        ("missing.py:score", "no such file"),
    ],
)
def test_a_reward_that_cannot_work_is_refused(reward: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        make(reward)


def test_no_reward_is_refused() -> None:
    with pytest.raises(InputError, match="nothing would be learned"):
        make()


def test_a_row_without_an_answer_cannot_be_compared_with() -> None:
    with pytest.raises(InputError, match="this one has none"):
        score("exact", ["a"])


FUNCTIONS = """
import time

def length(prompts, completions, answers):
    print("not a message")
    return [len(c) + (prompts[0][0]["content"] == "ask") for c in completions]

def nan(completions, **_):
    return [float("nan") for _ in completions]

def fails(completions, **_):
    raise ValueError("no such thing")

def hangs(completions, **_):
    time.sleep(60)

def ends(completions, **_):
    import os
    os._exit(3)

def few(completions, **_):
    return [1.0]
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(FUNCTIONS)
    return file


def test_a_function_of_a_file_scores_answers(functions: Path) -> None:
    assert score(f"{functions}:length", ["ab", ""]) == [3, 1]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("nan", "gives nan for the answer 'a'"),
        ("fails", r"raises ValueError: no such thing \(line 12\)"),
        ("hangs", "runs longer than 0.5 seconds for 2 answers"),
        ("ends", "ended its process"),
        ("few", "returns 1 numbers for 2 answers"),
    ],
)
def test_a_function_that_fails_names_itself_and_the_row(
    name: str, fault: str, functions: Path
) -> None:
    (reward,) = make(f"{functions}:{name}", seconds=0.5)
    with pytest.raises(InputError, match=fault) as caught:
        reward([row(""), row("")], ["a", "b"])
    assert "rows.jsonl:1" in str(caught.value.where)


def test_a_function_that_is_not_there_is_refused(functions: Path) -> None:
    with pytest.raises(InputError, match="no function 'other'"):
        make(f"{functions}:other")


def test_each_row_of_the_table_can_be_made(tmp_path: Path) -> None:
    schema = tmp_path / "s.json"
    schema.write_text("{}")
    values = {"FILE": str(schema), "PATTERN": "a", "CHARACTERS": "3"}
    for name, one in REWARDS.items():
        if one.value in ("", *values):
            assert make(f"{name}:{values[one.value]}" if one.value else name)[0].name == name


@pytest.mark.parametrize(
    ("rewards", "fault"),
    [
        ((), "nothing would be learned"),
        (("jsn",), "no reward 'jsn'"),
        (("length",), "is written length:CHARACTERS"),
        (("missing.py:score",), "no such file"),
        (("json_schema:missing.json",), "no such file"),
    ],
)
def test_what_is_written_wrongly_is_found_without_loading_anything(
    rewards: tuple[str, ...], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        check_rewards(GrpoSection(rewards=rewards), "tune.grpo")
    check_rewards(GrpoSection(rewards=("json", "length:9", "model:an-earlier-step")), "tune.grpo")
