"""Sources have their own shape, limit, weight and licence; SQLite files give a query's rows."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.dataset.make import load_splits
from edgetune.data.sources import find_sources, hash_sources
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import DataSection

QUIET = Log(quiet=True)


def write(path: Path, count: int, name: str = "q") -> str:
    rows = [{"prompt": f"{name}{n}", "completion": str(n)} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load(train: Any, seed: int = 0, **more: Any) -> Any:
    return load_splits(DataSection.model_validate({"train": train, **more}), seed, QUIET)


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    return {name: write(tmp_path / f"{name}.jsonl", 40, name) for name in ("a", "b", "v")}


def prompts(rows: list[Any], name: str) -> list[int]:
    return [int(row.answer) for row in rows if row.messages[0].content.startswith(name)]


def test_weights_and_limits(paths: dict[str, str]) -> None:
    train = [{"path": paths["a"], "weight": 2, "limit": 10}, {"path": paths["b"], "weight": 0.5}]
    splits = load(train, validation=paths["v"])
    a, b = prompts(splits.train, "a"), prompts(splits.train, "b")
    assert len(a) == 20 and len(set(a)) == 10 and a == sorted(a)
    assert len(b) == len(set(b)) == 20 and b == sorted(b)
    assert prompts(load(train, validation=paths["v"]).train, "b") == b
    assert prompts(load(train, 1, validation=paths["v"]).train, "b") != b


def test_validation_is_split_before_rows_are_repeated(paths: dict[str, str]) -> None:
    splits = load({"path": paths["a"], "weight": 3}, validation_fraction=0.2)
    assert (len(splits.train), len(splits.validation)) == (96, 8)
    assert not set(prompts(splits.train, "a")) & set(prompts(splits.validation, "a"))


def test_each_source_has_its_own_shape(paths: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("frage,antwort\nwarum,darum\n")
    (tmp_path / "d.jsonl").write_text('{"text": "play jazz", "intent": "music"}\n' * 2)
    columns = {"prompt": "frage", "completion": "antwort"}
    train = [
        paths["a"], {"path": str(tmp_path / "c.csv"), "columns": columns}, str(tmp_path / "d.jsonl")
    ]  # fmt: skip
    splits = load(train, validation=paths["v"])
    assert splits.facts["format"] == "prompt_completion, columns, classification"
    assert [row.answer for row in splits.train[40:]] == ["darum", "music", "music"]
    plain = load(
        [{"path": str(tmp_path / "d.jsonl"), "format": "text"}, paths["a"]], validation=paths["v"]
    )
    assert plain.train[0].text == "play jazz" and "text" not in plain.facts["objectives"]


def test_what_is_known_of_a_source_is_in_the_facts(paths: dict[str, str]) -> None:
    known = {"license": "MIT", "origin": "mails", "confidential": True, "weight": 2.0}
    section = DataSection.model_validate({"train": [{"path": paths["a"], **known}, paths["b"]]})
    first, second = load_splits(section, 0, QUIET).facts["provenance"]
    assert {key: first[key] for key in known} == known and first["rows"] == 40
    assert not set(known) & set(second)
    assert section.confidential == (paths["a"],)
    pieces = find_sources(section)["train"].pieces
    assert [piece.source.license for piece in pieces] == ["MIT", None]


def test_a_split_is_taken_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "full.json"
    pairs = {name: [[f"{name} {n}", name] for n in range(4)] for name in ("train", "oos_train")}
    path.write_text(json.dumps({**pairs, "test": [["t", "test"]]}))
    splits = load({"path": str(path), "split": "oos_train"}, validation_fraction=0.3)
    assert {row.answer for row in splits.train} == {"oos_train"}
    assert splits.test is splits.validation
    with pytest.raises(InputError, match=r"no split 'oos_trian' \(did you mean 'oos_train'"):
        load({"path": str(path), "split": "oos_trian"})


def test_a_query_of_a_sqlite_file(tmp_path: Path) -> None:
    file = tmp_path / "a b.db"
    with sqlite3.connect(file) as base:
        base.execute("CREATE TABLE mails (q TEXT, a TEXT, n INT)")
        base.executemany(
            "INSERT INTO mails VALUES (?, ?, ?)", [(f"q{n}", "a", n) for n in range(9)]
        )
    query = "SELECT q AS prompt, a AS completion FROM mails WHERE n > 3 ORDER BY n"
    source = {"path": f"sqlite:///{file}", "query": query}
    splits = load(source, validation_fraction=0.3)
    assert len(splits.train) + len(splits.validation) == 5
    assert splits.facts["columns_unused"] == []
    before = hash_sources(DataSection.model_validate({"train": source}).train)
    assert len(before) == 64
    with pytest.raises(InputError, match=r"SQLite: attempt to write a readonly|gives no rows"):
        load({**source, "query": "DELETE FROM mails"})
    with pytest.raises(InputError, match="no such table"):
        load({**source, "query": "SELECT 1 FROM letters"})
    with pytest.raises(InputError, match="read by a query"):
        load(f"sqlite:///{file}")
    file.write_text("no data base" * 100)
    with pytest.raises(InputError, match="not a database"):
        load(source)


def test_clinc150_with_its_out_of_scope_rows(tmp_path: Path) -> None:
    pairs = {
        "oos_val": [["who won", "oos"]],
        "val": [["how cold is it", "weather"]],
        "train": [["play jazz", "music"], ["rain today?", "weather"]],
        "test": [["louder", "music"]],
        "oos_train": [["are you real", "oos"]],
    }
    path = tmp_path / "data_full.json"
    path.write_text(json.dumps(pairs))
    train = [str(path), {"path": str(path), "split": "oos_train"}]
    splits = load(train)
    assert [row.answer for row in splits.train] == ["music", "weather", "oos"]
    assert splits.facts["rows"] == {"train": 3, "validation": 1, "test": 1}
