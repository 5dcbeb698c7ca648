"""Checks of an answer by itself: length, regular expression, JSON schema, known label."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from edgetune.errors import InputError, Unsupported
from edgetune.recipe.synthesis import Validators
from edgetune.synthesize.draft import Draft
from edgetune.synthesize.validators import Scene


class ContentCheck:
    """Length, regular expression and JSON schema of the answer that is trained."""

    def __init__(self, scene: Scene) -> None:
        self._validators = scene.section.validators
        # A broken expression or schema is found before anything is asked.
        if self._validators.regex is not None:
            _compile(self._validators.regex)
        if self._validators.json_schema is not None:
            _load_schema(self._validators.json_schema)

    def find_faults(self, drafts: Sequence[Draft]) -> list[str]:
        return [find_content_fault(self._validators, draft.answer) for draft in drafts]

    def accept(self, drafts: Sequence[Draft]) -> None:
        """Nothing is remembered."""


class LabelCheck:
    """The answer is one of those that train rows have."""

    def __init__(self, scene: Scene) -> None:
        self._known = {row.answer for row in scene.known if row.answer}
        if not self._known:
            raise InputError(
                "no train row has an answer, so no label is known",
                where="synthesize.validators.labels",
            )

    def find_faults(self, drafts: Sequence[Draft]) -> list[str]:
        return ["" if d.answer in self._known else "labels: not a train row's" for d in drafts]

    def accept(self, drafts: Sequence[Draft]) -> None:
        """Nothing is remembered."""


def find_content_fault(validators: Validators, answer: str) -> str:
    """Return why an answer by itself is rejected, or an empty text.

    Raises:
        InputError: the schema or the regular expression is broken.
    """
    if validators.regex is not None and not _compile(validators.regex).search(answer):
        return "regex: not found"
    if len(answer) < validators.min_characters:
        return f"length: below {validators.min_characters} characters"
    if validators.max_characters is not None and len(answer) > validators.max_characters:
        return f"length: over {validators.max_characters} characters"
    if validators.json_schema is not None:
        schema = _load_schema(validators.json_schema)
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            return "json_schema: not JSON"
        try:
            error = next(schema.iter_errors(value), None)
        except Exception as problem:  # of the schema: jsonschema's own and referencing's
            raise InputError(
                f"the JSON schema refers to what is not in it: {problem}",
                where=f"synthesize.validators.json_schema: {validators.json_schema}",
            ) from problem
        if error is not None:
            return f"json_schema: {'/'.join(map(str, error.schema_path))}"
    return ""


@cache
def _compile(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise InputError(
            f"not a regular expression: {error}", where="synthesize.validators.regex"
        ) from error


@cache
def _load_schema(name: str) -> Any:
    """Return the validator of a file's JSON schema; nothing that it refers to is downloaded."""
    where = f"synthesize.validators.json_schema: {name}"
    try:
        schema = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"no readable JSON schema: {error}", where=where) from error
    try:
        from jsonschema import exceptions, validators
        from referencing import Registry
    except ImportError as error:
        raise Unsupported(
            "checking answers by a JSON schema needs the package jsonschema",
            where=where,
            hint="pip install 'edgetune[synthetic]'",
        ) from error
    kind = validators.validator_for(schema, validators.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except exceptions.SchemaError as error:
        raise InputError(f"not a JSON schema: {error.message}", where=where) from error
    return kind(schema, registry=Registry())  # one that downloads nothing
