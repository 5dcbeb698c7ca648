"""Rewards that an answer earns by itself, or by the answer of its row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgetune.data.rows import Row
from edgetune.errors import InputError, Unsupported
from edgetune.train.rewards import Scope, Score

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_ABSENT = object()


def make_json(value: str, scope: Scope) -> Score:
    """Return the reward 1 of JSON."""
    return _by_answer(lambda answer: float(_parse(answer) is not _ABSENT))


def make_json_schema(value: str, scope: Scope) -> Score:
    """Return the reward 1 of JSON that the schema in a file accepts.

    Raises:
        InputError: a file that is no JSON schema.
        Unsupported: jsonschema is not installed.
    """
    try:
        import jsonschema
    except ImportError as error:
        raise Unsupported(
            "the reward json_schema needs jsonschema", hint="pip install jsonschema"
        ) from error
    try:
        schema = json.loads(Path(value).read_text(encoding="utf-8"))
        validator = jsonschema.validators.validator_for(schema)
        validator.check_schema(schema)
    except (OSError, ValueError, jsonschema.SchemaError) as error:
        reason = getattr(error, "message", None) or error
        raise InputError(f"not a JSON schema: {reason}", where=value) from error
    checker = validator(schema)

    def accepts(answer: str) -> float:
        found = _parse(answer)
        return float(found is not _ABSENT and checker.is_valid(found))

    return _by_answer(accepts)


def make_json_fields(value: str, scope: Scope) -> Score:
    """Return the share of a row's JSON fields that the answer has with the same value.

    Fields that the row's answer does not have count against it.
    """

    def compare(row: Row, answer: str) -> float:
        wanted, found = _parse(row.answer), _parse(answer)
        if not isinstance(wanted, dict):
            return float(found is not _ABSENT and found == wanted)
        if not isinstance(found, dict):
            return 0.0
        keys = wanted.keys() | found.keys()
        right = sum(key in wanted and key in found and wanted[key] == found[key] for key in keys)
        return right / len(keys) if keys else 1.0

    return _by_row(compare, "json_fields")


def make_regex(value: str, scope: Scope) -> Score:
    """Return the reward 1 of an answer that the pattern fits as a whole.

    Raises:
        InputError: no regular expression.
    """
    try:
        pattern = re.compile(value, re.DOTALL)
    except re.error as error:
        raise InputError(f"not a regular expression: {error}", where=f"regex:{value}") from error
    return _by_answer(lambda answer: float(pattern.fullmatch(answer) is not None))


def make_exact(value: str, scope: Scope) -> Score:
    """Return the reward 1 of the row's own answer."""
    return _by_row(lambda row, answer: float(answer.strip() == row.answer.strip()), "exact")


def make_numeric(value: str, scope: Scope) -> Score:
    """Return the reward 1 of an answer whose last number is that of the row's answer."""

    def compare(row: Row, answer: str) -> float:
        wanted, found = _last_number(row.answer), _last_number(answer)
        return float(wanted is not None and wanted == found)

    return _by_row(compare, "numeric")


def make_length(value: str, scope: Scope) -> Score:
    """Return the reward 1 of at most so many characters, less in proportion for longer answers.

    Raises:
        InputError: no whole number above 0.
    """
    if not value.isdigit() or not int(value):
        raise InputError("a length is a whole number of characters", where=f"length:{value}")
    most = int(value)
    return _by_answer(lambda answer: min(1.0, most / len(answer)) if answer else 0.0)


def _by_answer(score: Callable[[str], float]) -> Score:
    return lambda rows, answers: [score(answer) for answer in answers]


def _by_row(score: Callable[[Row, str], float], name: str) -> Score:
    def compare(rows: Sequence[Row], answers: Sequence[str]) -> list[float]:
        for row in rows:
            if not row.answer:
                raise InputError(
                    f"the reward {name} compares with the row's answer, and this one has none",
                    where=row.where,
                    hint="give rows with answers, or another reward",
                )
        return [score(row, answer) for row, answer in zip(rows, answers, strict=True)]

    return compare


def _parse(text: str) -> Any:
    """Return the JSON value of a text, or a mark that there is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _ABSENT


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
