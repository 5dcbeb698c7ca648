"""Rows that share a prompt with evaluation rows are excluded from calibration with a warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetune.artifact import Artifact
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.quantize.calibration.rows import Texts, choose_texts
from edgetune.recipe import Recipe, Sections


def write_part(rows: Path, name: str, numbers: range) -> str:
    """Write some of the rows to a file of their own."""
    lines = rows.read_text(encoding="utf-8").splitlines()
    path = rows.with_name(name)
    path.write_text("".join(lines[n] + "\n" for n in numbers), encoding="utf-8")
    return str(path)


def choose(model: Path, folder: Path, settings: dict[str, Any], **data: str) -> Texts:
    recipe = Recipe.model_validate(
        {"model": {"path": "unused"}, "data": data, "quantize": {**settings}}
    )
    log = Log(folder / "log.jsonl", quiet=True)
    merged = Artifact(model, "model", "merge", "key", facts={"folder": "."})
    out = folder / f"out-{len(list(folder.iterdir()))}"
    return choose_texts(Sections(recipe, ("data", "quantize")), {"merge": merged}, out, log)


def warnings_in(folder: Path) -> list[str]:
    path = folder / "log.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [event["text"] for event in events if event["event"] == "warning"]


def test_test_rows_are_left_out_with_a_warning(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    test = write_part(device_rows, "test.jsonl", range(30, 36))
    other = write_part(device_rows, "validation.jsonl", range(10))
    data = {"train": str(device_rows), "validation": other, "test": test}
    found = choose(tiny_model, tmp_path, {}, **data)
    assert len(found.calibration) == 30 and found.training == found.held_out == []
    of_test = choose(tiny_model, tmp_path, {}, train=test, validation=other, test=other)
    assert not {tuple(ids) for ids in of_test.calibration} & {
        tuple(ids) for ids in found.calibration
    }
    assert warnings_in(tmp_path) == [
        "6 of 36 train rows share a prompt with test or validation rows and were "
        "excluded from calibration"
    ]


@pytest.mark.parametrize("settings", [{}, {"method": "autoround"}, {"method": "qat"}])
def test_prompts_of_validation_rows_are_excluded_where_they_decide_what_is_kept(
    tiny_model: Path, device_rows: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    test = write_part(device_rows, "test.jsonl", range(30, 36))
    other = write_part(device_rows, "validation.jsonl", range(10))
    settings = {"budget": ["bits=5"], **settings}
    found = choose(
        tiny_model, tmp_path, settings, train=str(device_rows), validation=other, test=test
    )
    assert (len(found.calibration), len(found.held_out)) == (20, 10)
    trained = {tuple(ids) for ids in [*found.calibration, *found.training]}
    assert not trained & {tuple(ids) for ids in found.held_out}
    assert warnings_in(tmp_path) == [
        "16 of 36 train rows share a prompt with test or validation rows and were "
        "excluded from calibration"
    ]


def test_no_remaining_row_is_an_error(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    other = write_part(device_rows, "validation.jsonl", range(10))
    data = {"train": str(device_rows), "validation": other, "test": str(device_rows)}
    with pytest.raises(InputError, match="all 36 train rows share a prompt") as caught:
        choose(tiny_model, tmp_path, {}, **data)
    assert caught.value.where == "data.test" and "do not occur in train" in caught.value.hint


def test_disjoint_rows_are_used_without_a_warning(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    train = write_part(device_rows, "train.jsonl", range(20))
    test = write_part(device_rows, "test.jsonl", range(20, 36))
    found = choose(tiny_model, tmp_path, {"calibration_rows": 8}, train=train, test=test)
    assert len(found.calibration) == 8
    assert warnings_in(tmp_path) == []
