"""Duplicates, leaks, balance and splits over all rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetune.data.dataset.make import load_splits, make_dataset
from edgetune.data.dataset.settings import Settings
from edgetune.data.split import split_groups
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import DataSection

QUIET = Log(quiet=True)


def text(seed: int, words: int = 40) -> str:
    chance = random.Random(seed)
    return " ".join("".join(chance.choices("abcdefghij", k=6)) for _ in range(words))


def row(prompt: str, answer: str = "yes", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": answer, **more}


def load(tmp_path: Path, train: list[dict[str, Any]], **settings: Any) -> Any:
    files: dict[str, Any] = {"train": train, **settings.pop("files", {})}
    for name, rows in files.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        files[name] = str(path)
    section = DataSection.model_validate({**files, **settings})
    folder = tmp_path / "made"
    return make_dataset(Settings(section, 0), folder, tmp_path / "shards", QUIET)


def near(prompt: str) -> str:
    """Return a text that differs in one of its words."""
    first, *rest = prompt.split()
    return " ".join([first[::-1], *rest])


def test_equal_and_similar_rows_are_reported_or_left_out(tmp_path: Path) -> None:
    rows = [row(text(n)) for n in range(30)]
    rows += [rows[3], row(near(rows[5]["prompt"])), rows[3]]
    held = {"validation": [row(text(99))]}
    kept = load(tmp_path / "a", rows, files=held) if (tmp_path / "a").mkdir() is None else None
    assert len(kept.train) == 33
    assert kept.facts["similar"]["duplicates"] == {"rows": 2}
    assert kept.facts["similar"]["near_duplicates"] == {"rows": 1, "pairs": 1}
    (tmp_path / "b").mkdir()
    clean = {"duplicates": "fix", "near_duplicates": "fix"}
    fixed = load(tmp_path / "b", rows, files=held, clean=clean)
    assert [one.messages[0].content for one in fixed.train] == [one["prompt"] for one in rows[:30]]
    lines = [json.loads(line) for line in (fixed.folder / "dropped.jsonl").open()]
    assert [(one["step"], one["where"].rpartition(":")[2]) for one in lines] == [
        ("duplicates", "31"), ("duplicates", "33"), ("near_duplicates", "32"),
    ]  # fmt: skip
    assert lines[2]["reason"].endswith("train.jsonl:6") and "resembles" in lines[2]["reason"]
    assert fixed.facts["left_out"] == {
        "duplicates": {"equals": 2},
        "near_duplicates": {"resembles": 1},
    }


def test_leaks_are_marked_or_left_out(tmp_path: Path) -> None:
    rows = [row(text(n)) for n in range(30)]
    held = {
        "validation": [row(text(50)), row(rows[2]["prompt"], "no")],
        "test": [row(near(rows[7]["prompt"])), row(text(51)), row(rows[8]["prompt"])],
    }
    (tmp_path / "a").mkdir()
    kept = load(tmp_path / "a", rows, files=held)
    assert kept.validation.leaked.tolist() == [False, True]
    assert kept.test.leaked.tolist() == [True, False, True] and len(kept.train) == 30
    assert kept.facts["similar"]["leakage"] == {
        "train_rows": 3, "validation_rows": 1, "test_rows": 2,
    }  # fmt: skip
    (tmp_path / "b").mkdir()
    fixed = load(tmp_path / "b", rows, files=held, clean={"leakage": "fix"})
    gone = {row["prompt"] for row in (rows[2], rows[7], rows[8])}
    assert {one.messages[0].content for one in fixed.train} == {r["prompt"] for r in rows} - gone
    assert not fixed.test.leaked.any()


def test_labels_are_capped(tmp_path: Path) -> None:
    rows = [row(text(n), "common" if n % 10 else "rare") for n in range(40)]
    held = {"validation": [row(text(99))]}
    made = load(tmp_path, rows, files=held, clean={"max_per_label": 5})
    answers = [one.answer for one in made.train]
    assert (answers.count("common"), answers.count("rare")) == (5, 4)
    assert made.facts["similar"]["max_per_label"] == {"rows": 31}


@pytest.mark.parametrize("group_by", ["cluster", "author"])
def test_groups_stay_in_one_split(group_by: str, tmp_path: Path) -> None:
    rows = []
    for n in range(20):
        rows += [row(text(n), author=n), row(near(text(n)), "no", author=n)]
    made = load(tmp_path, rows, validation_fraction=0.3, split={"group_by": group_by})
    assert len(made.validation) == 12
    trained = {one.messages[0].content.split()[1] for one in made.train}
    assert not trained & {one.messages[0].content.split()[1] for one in made.validation}


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'autor' .did you mean .author"):
        load(tmp_path, [row(text(n), author=n) for n in range(9)], split={"group_by": "autor"})


def test_labels_are_stratified() -> None:
    labels = np.array([0] * 900 + [1] * 90 + [2] * 10)
    _, validates = split_groups(np.arange(1000), 0.1, 0, labels)
    assert np.bincount(labels[validates]).tolist() == [90, 9, 1]
    counts = {
        tuple(np.bincount(labels[split_groups(np.arange(1000), 0.1, seed)[1]], minlength=3))
        for seed in range(5)
    }
    assert len(counts) > 1  # without labels it is chance


def test_suspicious_labels_are_listed(tmp_path: Path) -> None:
    words = {"up": "rise grow climb lift gain", "down": "fall drop sink lose shrink"}
    chance = random.Random(0)
    rows = [
        {"text": " ".join(chance.choices(some.split(), k=6)) + f" {n}", "label": label}
        for n in range(60)
        for label, some in words.items()
    ]
    rows[14]["label"] = "down"  # its words say up
    made = load(tmp_path, rows, files={"validation": [{"text": "rise", "label": "up"}]})
    found = [json.loads(line) for line in (made.folder / "suspicious_labels.jsonl").open()]
    assert [(one["where"].rpartition(":")[2], one["label"], one["predicted"]) for one in found] == [
        ("15", "down", "up")
    ]
    assert made.facts["similar"]["labels"]["rows"] == 1 and len(made.train) == 120


def test_encoding_is_fixed_and_told(tmp_path: Path) -> None:
    made = load(
        tmp_path, [row(text(n) + " schÃ¶n") for n in range(9)],
        files={"validation": [row("a b c")]},
    )  # fmt: skip
    assert made.train[0].messages[0].content.endswith(" schön")
    assert sum(made.facts["found"]["encoding"].popitem()[1].values()) == 9
    lines = [json.loads(line) for line in (made.folder / "dropped.jsonl").open()]
    assert len(lines) == 9 and lines[0]["what"] == "changed" and "row" not in lines[0]


def test_what_was_read_into_memory_outlives_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row(text(n))) + "\n" for n in range(30)))
    splits = load_splits(DataSection(train=str(path)), 0, QUIET)
    assert not splits.folder.exists()
    assert len(list(splits.train)) + len(list(splits.test)) == 30
