"""Preferences, thumbs and prompts are found by their keys, and used where they can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.dataset.make import load_splits
from edgetune.data.rows import Message
from edgetune.data.shapes import SHAPES, detect_format, make_row, why_unused
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import Columns, DataSection

QUIET = Log(quiet=True)
ASKED = [{"role": "user", "content": "q"}]
GOOD = {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}
SHAREGPT = [{"from": "human", "value": "q"}]
PAIRS: list[dict[str, Any]] = [
    {"prompt": "q", "chosen": "good", "rejected": "bad"},
    {"prompt": ASKED, "chosen": [GOOD], "rejected": [BAD]},
    {"chosen": [*ASKED, GOOD], "rejected": [*ASKED, BAD]},
    {"prompt": "as text", "chosen": [*ASKED, GOOD], "rejected": [*ASKED, BAD], "messages": ASKED},
    {"messages": ASKED, "chosen": GOOD, "rejected": BAD},
    {
        "conversations": SHAREGPT,
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
]


def write_rows(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("value", PAIRS, ids=lambda value: "-".join(value))
def test_pairs_have_a_prompt_and_two_answers(value: dict[str, Any]) -> None:
    assert detect_format(value) == "preference"
    row = make_row(value, "preference", "here")
    assert row.messages == (Message("user", "q"), Message("assistant", "good"))
    assert row.rejected == (Message("assistant", "bad"),)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"messages": ASKED, "chosen": [GOOD, *ASKED, GOOD], "rejected": BAD}, "3 turns and"),
        ({"prompt": "q", "chosen": [GOOD], "rejected": ASKED}, "'rejected' ends without an answer"),
        ({"chosen": "a", "rejected": "b"}, "no key 'prompt'"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "'rejected' is null"),
        (
            {
                "chosen": [*ASKED, GOOD],
                "rejected": [{"role": "user", "content": "other"}, BAD],
            },
            "different prompts|no key 'prompt'",
        ),
    ],
)
def test_a_pair_that_is_none_is_refused(value: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        make_row(value, "preference", "here")


def test_equal_answers_are_no_preference_and_still_an_answer() -> None:
    row = make_row({"prompt": "q", "chosen": "a", "rejected": " a "}, "preference", "here")
    assert "are the same" in why_unused(row, "dpo") and "are the same" in why_unused(row, "reward")
    assert not why_unused(row, "sft")


@pytest.mark.parametrize("said", [True, "True", " true"])
@pytest.mark.parametrize(
    "value", [{"prompt": "q", "completion": "good"}, {"messages": [*ASKED, GOOD]}]
)
def test_thumbs_are_read(value: dict[str, Any], said: Any) -> None:
    for key in ("label", "kto_tag"):
        found = {**value, key: said}
        assert detect_format(found) == "unpaired_preference"
        row = make_row(found, "unpaired_preference", "here")
        assert (row.label, row.answer) == (True, "good")


def test_a_label_of_a_class_is_no_thumb() -> None:
    assert detect_format({"prompt": "q", "completion": "a", "label": "music"}) != (
        "unpaired_preference"
    )
    with pytest.raises(InputError, match="neither true nor false"):
        make_row({"messages": [*ASKED, GOOD], "label": 3}, "unpaired_preference", "here")


def test_a_prompt_alone_ends_with_the_user() -> None:
    value = {"prompt": "q", "system": "s"}
    assert detect_format(value) == "prompt_only"
    row = make_row(value, "prompt_only", "here")
    assert row.messages == row.prompt == (Message("system", "s"), Message("user", "q"))
    assert row.answer == "" and not row.is_answered
    assert "without an answer" in why_unused(row) and not why_unused(row, "grpo")


def test_tuning_trains_on_the_better_answers(tmp_path: Path, capsys: Any) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl", PAIRS[:2])
    splits = load_splits(DataSection(train=pairs, validation=pairs), 0, Log())
    assert [row.answer for row in splits.train] == ["good", "good"]
    assert splits.facts["objectives"][:2] == ["dpo", "reward"]
    assert "the chosen answers train" in capsys.readouterr().err
    thumbs = [{"prompt": f"q{n}", "completion": str(n), "label": n % 3 > 0} for n in range(9)]
    path = write_rows(tmp_path / "thumbs.jsonl", thumbs)
    splits = load_splits(DataSection(train=path, validation=path), 0, Log())
    assert [row.answer for row in splits.train] == ["1", "2", "4", "5", "7", "8"]
    assert list(splits.facts["not_used"]["train"].values()) == [3]
    assert splits.facts["skipped"]["train"] == 0
    assert "3 rows not used: its answer was not liked" in capsys.readouterr().err


def test_prompts_alone_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "p.jsonl", [{"prompt": "q"}])
    with pytest.raises(InputError, match="prompts without answers") as raised:
        load_splits(DataSection(train=path), 0, QUIET)
    assert "distill.prompts" in raised.value.hint and "grpo" in raised.value.what


def test_a_schema_that_changes_midway_is_named(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": "a"} for n in range(150)]
    rows += [{"question": "q", "answer": "a"}, {"question": "r", "answer": "b"}]
    path = write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises(InputError, match="no completion, prompt any more, and now answer, que"):
        load_splits(DataSection(train=path), 0, QUIET)
    facts = load_splits(DataSection(train=path, on_bad_row="skip"), 0, QUIET).facts
    assert list(facts["skipped_reasons"]["train"].values()) == [2]


def test_every_shape_is_a_format_of_the_recipe() -> None:
    for name, shape in SHAPES.items():
        assert DataSection(train="x", format=name).format == shape.name  # type: ignore[arg-type]
        assert shape.objectives


def test_a_text_with_columns_in_braces(tmp_path: Path) -> None:
    rows = [
        {"q": "play {a}", "intent": "music", "slots": {"artist": "{q}"}, "n": 2},
        {"q": "stop", "intent": "stop", "slots": None, "n": 1},
    ]
    path = write_rows(tmp_path / "a.jsonl", rows)
    columns = Columns(prompt="{q} ({n})", completion="{intent} {slots}")
    splits = load_splits(DataSection(train=path, validation=path, columns=columns), 0, QUIET)
    assert [row.messages[0].content for row in splits.train] == ["play {a} (2)", "stop (1)"]
    assert [row.answer for row in splits.train] == ['music {"artist": "{q}"}', "stop"]
    assert splits.facts["columns_unused"] == []
    objects = Columns(prompt="q", completion="slots")
    section = DataSection(train=path, columns=objects, on_bad_row="skip", validation=path)
    assert load_splits(section, 0, QUIET).train[0].answer == '{"artist": "{q}"}'
    wrong = Columns(prompt="q", completion="{intent} {slot}")
    with pytest.raises(InputError, match="no key 'slot'"):
        load_splits(DataSection(train=path, columns=wrong), 0, QUIET)
