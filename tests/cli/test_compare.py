"""`edgetune compare` writes a page of real models' answers, and counts votes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgetune.cli import cli
from edgetune.errors import InputError
from edgetune.evaluate.predictions import PredictionWriter, Question
from edgetune.votes.page import read_page
from tests.conftest import make_model
from tests.model_files import make_gguf


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(
        cli, ["compare", *map(str, arguments), "--json"], catch_exceptions=False
    )
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def export(path: Path, page: Path, choices: Sequence[str]) -> Path:
    key, _ = read_page(page)
    votes = [{"item": n, "vote": choice, "at": "1"} for n, choice in enumerate(choices)]
    voter = {"name": "Ann", "id": "1", "kind": "person"}
    value = {"format": "edgetune-votes", "schema": 1, "page": key.page, "key": key.encode()}
    path.write_text(json.dumps({**value, "voter": voter, "votes": votes}))
    return path


def test_from_models_to_results(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", seed=1)
    page = tmp_path / "page.html"
    made = run(
        tiny_model, other, make_gguf(tiny_model), "--data", device_rows, "--out", page,
        "--rows", 6, "--max-new-tokens", 8, "--comparisons", 10,
    )  # fmt: skip
    key, items = read_page(page)
    assert made["ok"] and made["id"] == key.page and made["rows"] == 6
    # The lossless file says what its model says: that pair has nothing to vote on.
    same = {frozenset(pair.models): pair.equal for pair in key.pairs}
    assert same[frozenset((0, 2))] == 6
    assert len(items) == made["comparisons"] <= 10
    assert all(item["turns"][0][1].startswith("light") for item in items)
    assert "expected" not in items[0]
    again = tmp_path / "again.html"
    run(
        tiny_model, other, make_gguf(tiny_model), "--data", device_rows, "--out", again,
        "--rows", 6, "--max-new-tokens", 8, "--comparisons", 10,
    )  # fmt: skip
    assert again.read_bytes() == page.read_bytes()
    choices = ["first", "second", "tie", "bad"][: len(items)]
    found = run("--votes", export(tmp_path / "v.json", page, choices))
    assert found["people"]["votes"] == len(choices)
    assert {one["n"] for one in found["people"]["scores"][0]} <= set(range(5))


def test_answers_that_a_run_kept_are_shown_without_its_models(tmp_path: Path) -> None:
    questions = [Question(f"ask {n}", f"own {n}") for n in range(8)]
    writer = PredictionWriter(tmp_path / "predictions", questions, confidential=True)
    for name in ("base", "student", "Q4_K_M"):
        writer.add(name, "file", [f"{name} says {n}" for n in range(8)])
    writer.finish()
    page = tmp_path / "page.html"
    arguments = (tmp_path, "base", "Q4_K_M", "--out", page, "--rows", 5, "--show-expected")
    with pytest.raises(InputError, match="confidential"):
        run(*arguments)
    made = run(*arguments, "--confidential")
    key, items = read_page(page)
    assert (made["models"], made["rows"], len(items)) == (2, 5, 5)
    for item, shown in zip(key.items, items, strict=True):
        number = shown["expected"].removeprefix("own ")
        assert shown["turns"] == [["user", f"ask {number}"]]
        assert shown["answers"][0] == f"{key.models[item.first]} says {number}"
    with pytest.raises(InputError, match="called nothing"):
        run(tmp_path, "base", "nothing", "--confidential")
    with pytest.raises(InputError, match="two models"):
        run(tmp_path, "base", "--confidential")


def test_what_lacks_is_named(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "a text"}\n')
    page = tmp_path / "page.html"
    page.write_text("<html>")
    for arguments, said in (
        ([tiny_model, tiny_model], "--data is missing"),
        ([tiny_model, "--data", device_rows], "only one model"),
        ([tiny_model, tiny_model, "--data", device_rows], "named twice"),
        ([page], "--judge is missing"),
        ([page, "--judge", "m.gguf"], "not a page"),
        (["a", "b", "--data", texts], "no row has a question"),
        (["--votes", page], "no JSON"),
        ([page, "--judge", "http://127.0.0.1:1/v1", "--confidential"], "confidential"),
    ):
        with pytest.raises(InputError, match=said):
            run(*arguments)
