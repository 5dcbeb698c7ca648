"""Answers that call tools: which tool, and with which arguments."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from edgetune.evaluate import REMEMBERED, Graded, Line, Questions, Score, Table, score_hits
from edgetune.evaluate.fields import field_scores, field_table
from edgetune.evaluate.json_values import ABSENT, Field, canonical, fields, parse
from edgetune.measure.definitions import Definition
from edgetune.measure.statistics import proportion

_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
_MARKS = ("[TOOL_CALLS]", "<|python_tag|>")  # before calls, by Mistral and Llama
_ARGUMENTS = ("arguments", "parameters", "args")
_ARGUMENT = (
    ": an argument is its path in the call of a tool, with its value; one of another tool is "
    "another argument; the interval is BCa's bootstrap over rows"
)

DEFINITIONS = {
    "call_match": Definition(
        "Equal calls", "",
        "fraction of rows whose answer calls the row's tools with the row's arguments, in its "
        "order, the order of arguments aside; no call is right where none is wanted; the interval "
        "is Wilson's",
    ),
    "tool_name_accuracy": Definition(
        "Right tool", "",
        "fraction of rows whose answer calls the row's tools by name, in its order, whatever the "
        "arguments; the interval is Wilson's",
    ),
    "argument_f1": Definition(
        "Argument F1", "",
        "harmonic mean of argument_precision and argument_recall" + _ARGUMENT,
    ),
    "argument_precision": Definition(
        "Argument precision", "",
        "fraction of the answers' arguments that their rows have too" + _ARGUMENT,
    ),
    "argument_recall": Definition(
        "Argument recall", "",
        "fraction of the rows' arguments that their answers have too" + _ARGUMENT,
    ),
    "call_parse_rate": Definition(
        "Parses as a call", "",
        "of the rows that want a call, the fraction whose answer has one that can be read; the "
        "interval is Wilson's",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    name: str
    arguments: Any


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade calls of tools.

    Raises:
        ValueError: not as many answers as questions, or none.
    """
    texts = [[_read_text(text) for text in part] for part in (questions.expected, answers)]
    right = [one.keys == other.keys for other, one in zip(*texts, strict=True)]
    named = [_names(one.calls) == _names(other.calls) for other, one in zip(*texts, strict=True)]
    wanted, found = ([one.calls for one in part] for part in texts)
    parts = [one.fields for one in texts[0]], [one.fields for one in texts[1]]
    scores = [score_hits("call_match", right), score_hits("tool_name_accuracy", named)]
    scores += field_scores(*parts, "argument")
    calls = [bool(one) for one, other in zip(found, wanted, strict=True) if other]
    if calls:
        rate = proportion(sum(calls), len(calls))
        pairs = zip(found, wanted, strict=True)
        rows = [float(bool(one)) if other else math.nan for one, other in pairs]
        scores.append(Score("call_parse_rate", rate, rows))
    tables = [_per_tool(wanted, found, right), field_table(*parts, "Per argument")]
    return Graded(scores, right, tables)


@dataclass(frozen=True)
class _Text:
    """What a text says: its calls, these in one form for all that are equal, and their fields."""

    calls: Sequence[Call]
    keys: Sequence[tuple[str, str]]
    fields: Counter[Field]


@lru_cache(REMEMBERED)
def _read_text(text: str) -> _Text:
    calls = find_calls(text)
    return _Text(calls, _keys(calls), _fields(calls))


def find_calls(text: str) -> list[Call]:
    """Return the calls in a text: JSON alone, in tags of ``tool_call``, or behind a known mark.

    A call is an object with ``name`` and ``arguments`` (or ``parameters``), which may lie in
    ``function``; arguments may be JSON within a text. A list has several.
    """
    tagged = _TAGGED.findall(text)
    if tagged:
        return [call for part in tagged for call in _read(parse(part.strip()))]
    for mark in _MARKS:
        if mark in text:
            text = text.split(mark, 1)[1]
    value = parse(text.strip())
    if value is not ABSENT:
        return list(_read(value))
    return [call for part in _split(text.strip()) for call in _read(part)]


def _split(text: str) -> Iterator[Any]:
    """Yield JSON values that follow one another, separated by white space or semicolons."""
    decoder = json.JSONDecoder()
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError):
            return
        yield value
        text = text[end:].lstrip(" \t\r\n;")


def _read(value: Any) -> Iterator[Call]:
    if isinstance(value, list):
        for one in value:
            yield from _read(one)
    if not isinstance(value, dict):
        return
    if isinstance(value.get("tool_calls"), list):
        yield from _read(value["tool_calls"])
    elif isinstance(value.get("function"), dict):
        yield from _read(value["function"])
    elif isinstance(value.get("name"), str):
        keys = [key for key in _ARGUMENTS if key in value]
        if keys:
            arguments = value[keys[0]]
            if isinstance(arguments, str):
                inner = parse(arguments)
                arguments = arguments if inner is ABSENT else inner
            yield Call(value["name"], arguments)


def _keys(calls: Sequence[Call]) -> list[tuple[str, str]]:
    return [(call.name, canonical(call.arguments)) for call in calls]


def _names(calls: Sequence[Call]) -> list[str]:
    return [call.name for call in calls]


def _fields(calls: Sequence[Call]) -> Counter[Field]:
    found: Counter[Field] = Counter()
    for call in calls:
        for (path, value), times in fields(call.arguments).items():
            if path or value != "{}":  # a call without arguments has none
                found[f"{call.name}({path})", value] += times
    return found


def _per_tool(
    wanted: Sequence[Sequence[Call]], found: Sequence[Sequence[Call]], right: Sequence[bool]
) -> Table:
    names = Counter(call.name for calls in wanted for call in calls)
    lines: list[Line] = []
    for name, _ in sorted(names.items(), key=lambda pair: (-pair[1], pair[0])):
        rows = [at for at, calls in enumerate(wanted) if name in _names(calls)]
        called = sum(name in _names(found[at]) for at in rows) / len(rows)
        lines.append([name, len(rows), called, sum(right[at] for at in rows) / len(rows)])
    return Table("per_tool", "Per tool", ["Tool", "Rows", "Called", "Equal calls"], lines)
