"""Folders, patterns and lists of files are read in natural order, and their splits found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.dataset.make import load_splits
from edgetune.data.sources import find_sources, hash_sources, open_source
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import DataSection

QUIET = Log(quiet=True)


def write(path: Path, *numbers: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": f"q{n}", "completion": str(n)} for n in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answers(train: Any, split: str = "train", **more: Any) -> list[str]:
    section = DataSection(train=train, validation_fraction=0.01, **more)
    return [row.answer for row in getattr(load_splits(section, 0, QUIET), split)]


def test_shards_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    for n in (10, 2, 1):
        write(folder / f"part-{n}.jsonl", n)
    (folder / "README.txt").write_text("notes")
    (folder / "_SUCCESS").write_text("")
    validation = str(write(tmp_path / "v.jsonl", 7))
    for train in (
        str(folder), f"{folder}/*.jsonl", f"{tmp_path}/**/part-*.jsonl",
        [f"{folder}/part-1.jsonl", f"{folder}/part-2.jsonl", f"{folder}/part-10.jsonl"],
        [f"{folder}/part-[0-9].jsonl", f"{folder}/part-10.jsonl"],
    ):  # fmt: skip
        assert answers(train, validation=validation) == ["1", "2", "10"], train
    source = find_sources(DataSection(train=str(folder)))["train"]
    assert source.unused == ("README.txt",) and "(3 files)" in str(source)
    (folder / "more.csv").write_text("prompt,completion\na,b\n")
    with pytest.raises(InputError, match=r"several kinds: .csv, JSON"):
        answers(str(folder))


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "validation.jsonl", "test.jsonl"),
        ("data/train-00000-of-00001.jsonl", "data/val-00000-of-00001.jsonl", "data/test-0.jsonl"),
        ("train/a.jsonl", "dev/a.jsonl", "test/a.jsonl"),
        ("my_train.JSONL", "my_valid.JSONL", "my_test.JSONL"),
    ],
)
def test_names_of_files_are_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    for n, name in enumerate(names):
        write(tmp_path / "set" / name, n)
    (tmp_path / "set" / "categories.json").write_text('["a", "b"]')
    splits = load_splits(DataSection(train=str(tmp_path / "set")), 0, QUIET)
    found = [
        [row.answer for row in rows] for rows in (splits.train, splits.validation, splits.test)
    ]
    assert found == [["0"], ["1"], ["2"]]
    assert splits.facts["parts_unused"] == ["categories.json"]


def test_keys_of_a_file_are_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data_full.json"
    pairs = {
        "oos_val": [["who won", "oos"]],
        "val": [["is it cold", "weather"]],
        "train": [["play jazz", "music"], ["rain today?", "weather"]],
        "test": [["louder", "music"]],
    }
    path.write_text(json.dumps(pairs))
    splits = load_splits(DataSection(train=str(path)), 0, Log())
    assert splits.facts["format"] == "classification"
    assert splits.facts["rows"] == {"train": 2, "validation": 1, "test": 1}
    assert splits.train[1].messages[0].content == "rain today?"
    assert splits.test[0].answer == "music"
    assert "parts not used: data_full.json[oos_val]" in capsys.readouterr().err
    assert answers(str(path), "test", test=str(write(tmp_path / "t.jsonl", 9))) == ["9"]


def test_a_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file matches"):
        open_source(f"{tmp_path}/*.jsonl", "train")
    with pytest.raises(InputError, match="no such data file"):
        open_source([str(tmp_path / "a.jsonl")], "train")


def test_a_name_with_brackets_is_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a[1].jsonl", 1)
    assert open_source(str(path), "train").pieces[0].path == path


def test_the_hash_is_of_all_files(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.jsonl", 1), write(tmp_path / "b.jsonl", 2)
    both = hash_sources([str(one), str(two)])
    assert both == hash_sources(f"{tmp_path}/*.jsonl") != hash_sources(str(one))
    write(two, 3)
    assert hash_sources([str(one), str(two)]) != both
