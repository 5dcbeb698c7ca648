"""Answers are rejected for their length, by a regular expression, by a JSON schema, by labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.recipe.synthesis import Validators
from edgetune.synthesize.validators.content import find_content_fault

SCHEMA = {
    "type": "object",
    "required": ["call"],
    "properties": {"call": {"enum": ["on", "off"]}, "level": {"type": "integer", "maximum": 100}},
    "additionalProperties": False,
}


@pytest.fixture
def schema(tmp_path: Path) -> Validators:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    return Validators(json_schema=str(path))


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ('{"call": "on"}', ""),
        ('{"call": "on", "level": 40}', ""),
        ('{"call": "up"}', "json_schema: properties/call/enum"),
        ('{"level": 40}', "json_schema: required"),
        ('{"call": "on", "more": 1}', "json_schema: additionalProperties"),
        ('{"call": "on"', "json_schema: not JSON"),
        ("[" * 100_000, "json_schema: not JSON"),
    ],
)
def test_a_json_schema_rejects(schema: Validators, answer: str, fault: str) -> None:
    assert find_content_fault(schema, answer) == fault


def test_a_schema_that_refers_elsewhere_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"$ref": "http://127.0.0.1:9/other.json"}))
    with pytest.raises(InputError, match="refers to what is not in it"):
        find_content_fault(Validators(json_schema=str(path)), "{}")


def test_what_is_no_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"type": "no such type"}')
    with pytest.raises(InputError, match="not a JSON schema"):
        find_content_fault(Validators(json_schema=str(path)), "{}")


def test_length_and_expression_reject() -> None:
    some = Validators(regex=r"^\d+$", min_characters=2, max_characters=3)
    found = [find_content_fault(some, text) for text in ("12", "1", "1234", "ab")]
    assert found == [
        "", "length: below 2 characters", "length: over 3 characters", "regex: not found",
    ]  # fmt: skip
