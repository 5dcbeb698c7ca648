"""Shapes are detected, bad rows refused or counted, splits disjoint and repeatable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.dataset.make import load_splits
from edgetune.data.rows import Message, fill_answer
from edgetune.data.shapes import make_row
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import Columns, DataSection

QUIET = Log(quiet=True)
ANSWERED = (Message("user", "q"), Message("assistant", "a"))


def write_rows(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("format", "value", "messages"),
    [
        (
            "messages",
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": " a "},
                ]
            },
            ANSWERED,
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            ANSWERED,
        ),
        ("prompt_completion", {"prompt": "q", "completion": " a"}, ANSWERED),
        (
            "prompt_completion",
            {
                "prompt": [{"role": "user", "content": [{"type": "text", "text": "q"}]}],
                "completion": [{"role": "assistant", "content": "a"}],
            },
            ANSWERED,
        ),
        ("instruction", {"instruction": "q", "input": "", "output": "a"}, ANSWERED),
        (
            "instruction",
            {"instruction": "do", "input": "this", "output": "a", "system": "s"},
            (Message("system", "s"), Message("user", "do\nthis"), Message("assistant", "a")),
        ),
    ],
)
def test_shapes(format: str, value: dict[str, Any], messages: tuple[Message, ...]) -> None:
    row = make_row(value, format, "here")
    assert row.messages == messages
    assert row.answer == "a"


def test_detection_reaches_every_shape(tmp_path: Path) -> None:
    shapes = {
        "messages": {
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        },
        "sharegpt": {
            "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
        },
        "prompt_completion": {"prompt": "q", "completion": "a", "extra": 1},
        "instruction": {"instruction": "q", "output": "a"},
        "text": {"text": "a"},
    }
    for name, value in shapes.items():
        path = write_rows(tmp_path / f"{name}.jsonl", [value])
        splits = load_splits(DataSection(train=path, validation=path), 0, QUIET)
        assert splits.facts["format"] == name
    splits = load_splits(
        DataSection(
            train=write_rows(tmp_path / "named.jsonl", [{"q": "x", "a": "y"}]),
            validation=write_rows(tmp_path / "other.jsonl", [{"q": "z", "a": "y"}]),
            columns=Columns(prompt="q", completion="a"),
        ),
        0,
        QUIET,
    )
    assert splits.facts["format"] == "columns"
    assert splits.test is splits.validation
    assert splits.train[0].answer == "y"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"prompt": "q"}, "no key 'completion'"),
        ({"prompt": "q", "completion": ""}, "'completion' is empty"),
        ({"prompt": "q", "completion": 3}, "a number, not text"),
        ({"prompt": None, "completion": "a"}, "null, not text"),
        ({"prompt": [{"role": "emperor", "content": "x"}], "completion": "a"}, "unknown role"),
    ],
)
def test_bad_row_is_an_error_or_is_counted(
    tmp_path: Path, value: dict[str, Any], fault: str
) -> None:
    good = [{"prompt": f"q{i}", "completion": "a"} for i in range(20)]
    path = write_rows(tmp_path / "rows.jsonl", [*good[:4], value, *good[4:]])
    with pytest.raises(InputError, match=fault) as raised:
        load_splits(DataSection(train=path), 0, QUIET)
    assert raised.value.where.startswith(f"{path}:5")
    splits = load_splits(DataSection(train=path, on_bad_row="skip"), 0, QUIET)
    assert splits.facts["skipped"] == {"train": 1}
    assert fault in splits.facts["skipped_examples"][0]
    assert splits.facts["rows"] == {"train": 19, "validation": 1, "test": 1}


def test_conversation_ends_at_its_last_answer() -> None:
    turns = [("user", "q"), ("assistant", "a"), ("user", "thanks")]
    value = {"messages": [{"role": role, "content": text} for role, text in turns]}
    assert make_row(value, "messages", "here").messages == ANSWERED
    value["messages"].pop(1)
    with pytest.raises(InputError, match="no assistant turn"):
        make_row(value, "messages", "here")


def test_unknown_shape_names_the_keys(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(InputError, match="question, answer") as raised:
        load_splits(DataSection(train=path), 0, QUIET)
    assert "data.columns" in raised.value.hint


def test_missing_file_and_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such data file"):
        load_splits(DataSection(train=str(tmp_path / "none.jsonl")), 0, QUIET)
    path = write_rows(tmp_path / "rows.jsonl", [{"text": ""}, {"text": " "}])
    with pytest.raises(InputError, match="2 skipped"):
        load_splits(DataSection(train=path, on_bad_row="skip"), 0, QUIET)


def test_split_is_disjoint_and_follows_the_seed(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {i // 2}", "completion": str(i)} for i in range(200)]
    section = DataSection(
        train=write_rows(tmp_path / "rows.jsonl", rows), validation_fraction=0.1, limit=50
    )
    first, again, other = (load_splits(section, seed, QUIET) for seed in (1, 1, 2))
    assert first.validation == again.validation != other.validation
    assert first.train == again.train
    assert (len(first.train), len(first.validation)) == (50, 20)
    # Each prompt occurs twice: both rows fall on the same side.
    asked = {row.prompt for row in first.validation}
    assert len(asked) == 10
    assert not asked & {row.prompt for row in first.train}


def test_overlap_with_train_is_counted_and_warned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"q{i}", "completion": "a"} for i in range(40)]
    section = DataSection(
        train=write_rows(tmp_path / "train.jsonl", [*rows, rows[0]]),
        validation=write_rows(tmp_path / "validation.jsonl", [{"prompt": "v", "completion": "a"}]),
        test=write_rows(tmp_path / "test.jsonl", [{"prompt": "q3  ", "completion": "b"}, rows[4]]),
    )
    facts = load_splits(section, 0, Log()).facts
    assert facts["duplicates"] == {"train": 1, "validation_in_train": 0, "test_in_train": 2}
    assert (
        "2 of 2 test prompts also occur in train; the test score is optimistic"
        in capsys.readouterr().err
    )


def test_saved_dict_brings_its_splits(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    splits = {
        name: Dataset.from_list([{"prompt": name, "completion": "a"}])
        for name in ("train", "validation", "test")
    }
    DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    loaded = load_splits(DataSection(train=str(tmp_path / "saved")), 0, QUIET)
    assert loaded.test[0].prompt[0].content == "test"
    assert loaded.validation[0].where.endswith("[validation]: row 1")


@pytest.mark.parametrize(
    ("value", "column", "wanted"),
    [
        ({"prompt": "a"}, "completion", {"prompt": "a", "completion": "-"}),
        ({"prompt": "a", "completion": ""}, "completion", {"prompt": "a", "completion": "-"}),
        ({"prompt": "a", "completion": "b"}, "completion", {"prompt": "a", "completion": "b"}),
        ({"instruction": "a"}, "completion", {"instruction": "a", "output": "-"}),
        ({"question": "a"}, "reply", {"question": "a", "reply": "-"}),
        (
            {"messages": [{"role": "user", "content": "a"}]}, "completion",
            {"messages": [{"role": "user", "content": "a"},
                          {"role": "assistant", "content": "-"}]},
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}]}, "completion",
            {"conversations": [{"from": "human", "value": "a"},
                               {"from": "assistant", "value": "-"}]},
        ),
    ],
)  # fmt: skip
def test_rows_that_need_no_answer(
    value: dict[str, Any], column: str, wanted: dict[str, Any]
) -> None:
    assert fill_answer(value, column) == wanted


@pytest.mark.parametrize(
    ("value", "columns", "asked", "answer"),
    [
        ({"text": "wake me", "intent": "alarm"}, [], "wake me", "alarm"),
        ({"text": "wake me", "label": "alarm", "id": 3}, ["id"], "wake me", "alarm"),
        ({"category": "card", "text": "lost it"}, [], "lost it", "card"),
        ({"class": "spam", "text": "win"}, [], "win", "spam"),
        ({"text": "win", "label": 1}, [], "win", "1"),
        ({"text": "win", "label": 1, "label_text": "spam"}, ["label"], "win", "spam"),
        ({"text": "win", "label": 0, "category": "spam"}, ["label"], "win", "spam"),
        ({"Text": "win", "Label": True}, [], "win", "true"),
        ({"utterance": "wake me", "intent": "alarm"}, [], "wake me", "alarm"),
    ],
)
def test_text_and_label_is_classification(
    tmp_path: Path, value: dict[str, Any], columns: list[str], asked: str, answer: str
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [value])
    splits = load_splits(DataSection(train=path, validation=path), 0, QUIET)
    row = splits.train[0]
    assert splits.facts["format"] == "classification"
    assert row.messages == (Message("user", asked), Message("assistant", answer))
    assert splits.facts["columns_unused"] == columns


def test_text_stays_text(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"text": "a", "source": "web", "label": None}])
    splits = load_splits(DataSection(train=path, validation=path), 0, QUIET)
    assert splits.facts["format"] == "text"
    path = write_rows(tmp_path / "labels.jsonl", [{"text": "a", "label": "b"}])
    section = DataSection(train=path, validation=path, format="text")
    assert load_splits(section, 0, QUIET).train[0].text == "a"
    for value in ({"text": "a"}, {"x": "a", "label": "b"}):
        path = write_rows(tmp_path / "none.jsonl", [value])
        with pytest.raises(InputError, match="no shape that is known"):
            load_splits(DataSection(train=path, format="classification"), 0, QUIET)


def test_rows_without_a_label_are_bad(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "label": "x" if n % 4 else None} for n in range(20)]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match="'label' is null"):
        load_splits(DataSection(train=path), 0, QUIET)
    facts = load_splits(DataSection(train=path, on_bad_row="skip"), 0, QUIET).facts
    assert facts["skipped_reasons"] == {"train": {"'label' is null, not text": 5}}
    assert facts["skipped_examples"][0].startswith(f"{path}:1: ")
