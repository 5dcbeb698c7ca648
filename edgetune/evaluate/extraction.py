"""Answers that are JSON: whether they parse, fit a schema, and which of their fields are right.

Options: ``schema_file``, a JSON Schema.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgetune.errors import InputError, Unsupported
from edgetune.evaluate import REMEMBERED, Graded, Questions, score_hits
from edgetune.evaluate.fields import field_scores, field_table
from edgetune.evaluate.json_values import ABSENT, Field, canonical, fields, parse
from edgetune.measure.definitions import Definition

WHERE = "bench.task_options.schema_file"

_FIELD = (
    ": a field is a path with its value, the order of keys and of a list's values aside; an answer "
    "that is no JSON has none; the interval is BCa's bootstrap over rows"
)

DEFINITIONS = {
    "field_f1": Definition(
        "Field F1", "", "harmonic mean of field_precision and field_recall" + _FIELD
    ),
    "field_precision": Definition(
        "Field precision", "", "fraction of the answers' fields that their rows have too" + _FIELD
    ),
    "field_recall": Definition(
        "Field recall", "", "fraction of the rows' fields that their answers have too" + _FIELD
    ),
    "json_exact": Definition(
        "Equal JSON", "",
        "fraction of rows whose answer is the row's JSON value, the order of keys and white space "
        "aside, 1 and 1.0 being equal; the interval is Wilson's",
    ),
    "json_parse_rate": Definition(
        "Parses as JSON", "",
        "fraction of answers that are JSON as a whole (RFC 8259: no NaN, nothing before or after "
        "it); the interval is Wilson's",
    ),
    "schema_validity": Definition(
        "Fits the schema", "",
        "fraction of answers that are JSON which bench.task_options.schema_file accepts; the "
        "interval is Wilson's",
    ),
}  # fmt: skip


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade JSON answers.

    Raises:
        InputError: the schema is none.
        Unsupported: a schema is named and jsonschema is not installed.
        ValueError: not as many answers as questions, or none.
    """
    wanted = [_read(text) for text in questions.expected]
    found = [_read(text) for text in answers]
    right = [_is_equal(one, other) for one, other in zip(found, wanted, strict=True)]
    wanted_fields, found_fields = [one.fields for one in wanted], [one.fields for one in found]
    parsed = [one.canonical is not None for one in found]
    scores = field_scores(wanted_fields, found_fields, "field")
    scores += [score_hits("json_exact", right), score_hits("json_parse_rate", parsed)]
    if questions.options.get("schema_file"):
        accepts = open_schema(questions.options["schema_file"])
        valid = [one.canonical is not None and accepts(one.value) for one in found]
        scores.append(score_hits("schema_validity", valid))
    return Graded(scores, right, [field_table(wanted_fields, found_fields, "Per field")])


@dataclass(frozen=True)
class _Text:
    """What a text says: its JSON value, that in one form for all that are equal, and its fields."""

    value: Any
    canonical: str | None
    fields: Counter[Field]


@lru_cache(REMEMBERED)
def _read(text: str) -> _Text:
    value = parse(text)
    if value is ABSENT:
        return _Text(value, None, Counter())
    return _Text(value, canonical(value), fields(value))


def _is_equal(one: _Text, other: _Text) -> bool:
    """Return whether two texts are the same JSON; one that is none equals nothing."""
    return one.canonical is not None and one.canonical == other.canonical


def open_schema(path: str | Path) -> Callable[[Any], bool]:
    """Return what says whether a value fits a schema.

    Raises:
        InputError: no schema.
        Unsupported: jsonschema is not installed.
    """
    try:
        import jsonschema
    except ImportError as error:
        raise Unsupported(
            "checking answers by a JSON schema needs the package jsonschema",
            where=WHERE,
            hint="pip install 'edgetune[synthetic]'",
        ) from error
    try:
        schema = json.loads(Path(path).read_text(encoding="utf-8"))
        kind = jsonschema.validators.validator_for(schema)
        kind.check_schema(schema)
    except (OSError, ValueError, jsonschema.SchemaError) as error:
        reason = getattr(error, "message", None) or error
        raise InputError(f"not a JSON schema: {reason}", where=f"{WHERE}: {path}") from error
    validator = kind(schema)
    return lambda value: bool(validator.is_valid(value))
