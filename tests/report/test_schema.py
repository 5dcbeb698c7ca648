"""report.json is what its published schema says, and every key of it is described there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgetune.report.build import write_report

from .conftest import SampleRun

SCHEMA: dict[str, Any] = json.loads(Path("docs/report.schema.json").read_text(encoding="utf-8"))


def read(run: SampleRun, folder: Path) -> dict[str, Any]:
    write_report(run.report(), folder)
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", ["sample", "answered"])
def test_a_report_is_what_the_schema_says(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    report = read(request.getfixturevalue(name), tmp_path / "report")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert report.keys() <= SCHEMA["properties"].keys()
    assert report["schema"] == SCHEMA["properties"]["schema"]["const"]


def test_the_schema_refuses_what_no_report_is(answered: SampleRun, tmp_path: Path) -> None:
    report = read(answered, tmp_path / "report")
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for place, key in (("gates", "ok"), ("models", "measurements")):
        broken = json.loads(json.dumps(report))
        del broken[place][0][key]
        assert not validator.is_valid(broken), (place, key)
    del report["evaluation"]["differences"][0]["ci95"]
    assert not validator.is_valid(report)
