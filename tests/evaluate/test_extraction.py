"""JSON answers: parsed strictly, compared by fields, and calls of tools."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from sklearn.metrics import precision_recall_fscore_support

from edgetune.errors import InputError
from edgetune.evaluate import TASKS, Graded, Questions
from edgetune.evaluate.json_values import fields, parse
from edgetune.evaluate.tool_calls import Call, find_calls


def grade(task: str, expected: list[str], answers: list[str], **options: object) -> Graded:
    return TASKS[task].grade(Questions(["?"] * len(expected), expected, options), answers)


def values(graded: Graded) -> dict[str, float]:
    return {score.name: score.estimate.value for score in graded.scores}


def test_key_order_and_white_space_do_not_count_but_types_do() -> None:
    row = '{"a": 1, "b": [true, "1"]}'
    answers = ['{"b":[true,"1"],\n"a":1.0}', '{"a": "1", "b": [true, "1"]}', '{"a":1,"b":[1,"1"]}']
    assert grade("extraction", [row] * 3, answers).right == [True, False, False]


@pytest.mark.parametrize(
    "text",
    ["", "NaN", '{"a": NaN}', '{"a": 1} ', "[" * 100_000, "```json\n{}\n```", '{"a": 1} done',
     "{'a': 1}", "\ud800"],
)  # fmt: skip
def test_only_json_parses(text: str) -> None:
    found = values(grade("extraction", ['{"a": 1}'] * 2, [text, '{"a": 1}']))
    assert found["json_parse_rate"] == (1.0 if text == '{"a": 1} ' else 0.5)
    assert found["field_precision"] == 1.0


def test_paths_are_those_of_the_leaves() -> None:
    value = parse('{"a": {"b": 1}, "c": [{"d": "x"}, {"d": "y"}], "e": [], "f": null}')
    assert fields(value) == Counter(
        [("a.b", "1"), ("c[].d", '"x"'), ("c[].d", '"y"'), ("e", "[]"), ("f", "null")]
    )


@pytest.mark.parametrize("seed", range(10))
def test_field_scores_equal_scikit_learn(seed: int) -> None:
    """Each (row, field, value) that a row or an answer has is a case: is it wanted, is it found?"""
    generator = random.Random(seed)
    draw = lambda: {key: generator.choice("xyz") for key in "abcd" if generator.random() < 0.7}  # noqa: E731
    rows, answers = [draw() for _ in range(12)], [draw() for _ in range(12)]
    found = values(grade("extraction", [*map(json.dumps, rows)], [*map(json.dumps, answers)]))
    cases = []
    for row, answer in zip(rows, answers, strict=True):
        one, other = set(fields(row)), set(fields(answer))
        cases += [(case in one, case in other) for case in one | other]
    wanted = precision_recall_fscore_support(
        [a for a, _ in cases], [b for _, b in cases], average="binary", zero_division=0
    )
    names = ("field_precision", "field_recall", "field_f1")
    assert [found[name] for name in names] == pytest.approx(list(wanted[:3]))


def test_schema_validity_is_jsonschemas(tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    answers = ['{"a": 1}', '{"a": "1"}', "{}", "no"]
    found = values(grade("extraction", ['{"a": 1}'] * 4, answers, schema_file=path))
    assert found["schema_validity"] == 0.25
    path.write_text('{"type": "nothing"}')
    with pytest.raises(InputError, match="not a JSON schema"):
        grade("extraction", ["{}"], ["{}"], schema_file=path)


def test_fields_are_listed_with_their_counts() -> None:
    (table,) = grade(
        "extraction", ['{"a": 1, "b": 2}', '{"a": 3}'], ['{"a": 1}', '{"c": 3}']
    ).tables
    assert [list(row) for row in table.rows] == [
        ["a", 2, 1, 1.0, 0.5, 2 / 3], ["b", 1, 0, None, 0.0, 0.0], ["c", 0, 1, 0.0, None, 0.0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f", "arguments": {"x": 1}}',
        '[{"name": "f", "parameters": {"x": 1}}]',
        '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>',
        'I call.<tool_call>{"arguments": {"x": 1}, "name": "f"}',
        '[TOOL_CALLS] [{"name": "f", "arguments": "{\\"x\\": 1}"}]',
        '{"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}',
    ],
)
def test_calls_are_found_in_the_forms_of_known_templates(text: str) -> None:
    assert find_calls(text) == [Call("f", {"x": 1})]


def test_several_calls_are_read_in_order() -> None:
    one, other = '{"name": "f", "arguments": {}}', '{"name": "g", "arguments": {"y": [1]}}'
    wanted = [Call("f", {}), Call("g", {"y": [1]})]
    assert find_calls(f"<tool_call>{one}</tool_call>\n<tool_call>{other}</tool_call>") == wanted
    assert find_calls(f"{one}; {other}") == wanted
    assert find_calls('{"x": 1}') == find_calls("no call") == []


def test_names_and_arguments_of_calls_are_scored_apart() -> None:
    call = '{"name": "f", "arguments": {"x": 1, "y": 2}}'
    answers = [call, call.replace("2", "3"), call.replace("f", "g"), "Which one?", "Hello."]
    graded = grade("tool_calls", [call] * 4 + ["Hi."], answers)
    found = values(graded)
    assert graded.right == [True, False, False, False, True]
    assert found["tool_name_accuracy"] == 0.6
    assert (found["argument_precision"], found["argument_recall"]) == (3 / 6, 3 / 8)
    assert found["call_parse_rate"] == 0.75
    assert list(graded.tables[0].rows[0]) == ["f", 4, 0.5, 0.25]
