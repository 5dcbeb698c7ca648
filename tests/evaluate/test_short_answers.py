"""Numbers, letters and commands are read from answers as a person reads them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.evaluate import TASKS, Graded, Questions
from edgetune.evaluate.command import split_command, token_f1
from edgetune.evaluate.multiple_choice import find_choice
from edgetune.evaluate.numeric import find_number


def grade(task: str, expected: list[str], answers: list[str], **options: object) -> Graded:
    return TASKS[task].grade(Questions(["?"] * len(expected), expected, options), answers)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is 3 x 4 = 12.\n#### 1,234", "1234"), ("#### -5", "-5"), ("18", "18"),
        ("He pays $1,234.50.", "1234.50"), ("-$3", "-3"), ("− 3 or −3", "-3"), (".5", "0.5"),
        ("1e3", "1000"), ("about 12%", "12"), ("5 apples and 7 pears", "7"), ("x2 = 3", "3"),
        ("in 2024, on 1.2.3", "2024"), ("no number", None), ("", None), ("#### none", None),
    ],
)  # fmt: skip
def test_the_number_of_a_text(text: str, number: str | None) -> None:
    assert find_number(text) == (Decimal(number) if number else None)


def test_decimal_commas_and_tolerances() -> None:
    assert find_number("1.234,5", decimal_comma=True) == Decimal("1234.5")
    assert grade("numeric", ["10", "10"], ["10.4", "11"]).right == [False, False]
    assert grade("numeric", ["10", "10"], ["10.4", "11"], tolerance=0.5).right == [True, False]
    near = grade("numeric", ["100", "100"], ["104", "111"], relative_tolerance=0.05)
    assert near.right == [True, False]
    assert grade("numeric", ["none"], ["none"]).right == [False]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("b", "B"), (" (C) ", "C"), ("D.", "D"), ("B) Paris", "B"), ("B: Paris", "B"),
        ("(B) Paris is it", "B"), ("The answer is C.", "C"), ("answer: (D)", "D"), ("**A**", "A"),
        ("I think A is wrong, so the answer is B", "B"), ("A cat sat", ""), ("Paris", ""), ("", ""),
        ("I don't know", ""),
    ],
)  # fmt: skip
def test_the_letter_of_an_answer(text: str, letter: str) -> None:
    assert find_choice(text) == letter


def test_a_letter_that_nothing_chooses_is_never_right() -> None:
    graded = grade("multiple_choice", ["A", "B", "Paris"], ["A", "C", "Paris"])
    assert graded.right == [True, False, False]
    assert [list(row) for row in graded.tables[0].rows] == [
        ["A", 1, 1, 1.0], ["B", 1, 0, 0.0], ["C", 0, 1, None], ["(none)", 1, 1, 0.0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("ls  -l | wc", "ls -l|wc", True), ("```bash\nls -l\n```", "ls -l", True),
        ("echo 'a  b'", "echo 'a b'", False), ("echo 'a'", 'echo "a"', False),
        ("ls -l", "ls -L", False), ("a\nb", "a b", False), ("echo 'open", "echo  'open", True),
        ("a # b", "a", False), ("echo 'a\nb'", "echo  'a\nb'", True), ("", " ", True),
    ],
)  # fmt: skip
def test_commands_are_equal_but_for_white_space(one: str, other: str, equal: bool) -> None:
    assert (split_command(one) == split_command(other)) is equal


def test_tokens_and_the_first_word_are_scored() -> None:
    assert token_f1(["a", "b", "b"], ["b", "c"]) == pytest.approx(0.4)
    graded = grade("command", ["find . -name x"] * 3, ["find . -name x", "find .", ""])
    found = {one.name: one.estimate.value for one in graded.scores}
    assert found["command_token_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["first_word_accuracy"] == pytest.approx(2 / 3)
    assert graded.right == [True, False, False]


FILE = """
import os
def half(prompts, answers, expected):
    return [0.5 * (a == e) for a, e in zip(answers, expected)]
def whole(prompts, answers, expected):
    return [a == e for a, e in zip(answers, expected)]
def few(prompts, answers, expected):
    return [1]
def nan(prompts, answers, expected):
    return [float("nan")] * len(answers)
def hang(prompts, answers, expected):
    while True: pass
"""


def test_a_function_of_a_file_scores_answers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    half = grade("custom", ["a", "b"], ["a", "x"], metric=f"{tmp_path}/mine.py:half")
    assert half.scores[0].rows == [0.5, 0.0]
    assert half.right is None
    whole = grade("custom", ["a", "b"], ["a", "x"], metric=f"{tmp_path}/mine.py:whole")
    assert whole.right == [True, False]


@pytest.mark.parametrize(
    ("name", "message"),
    [("few", "returns 1 numbers for 2"), ("nan", "gives nan for answer 1"),
     ("hang", "runs longer than 0.5 seconds"), ("absent", "no function 'absent'"),
     ("", "no metric is named")],
)  # fmt: skip
def test_a_function_that_fails_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    options = {"metric": f"{tmp_path}/mine.py:{name}" if name else "", "metric_seconds": 0.5}
    with pytest.raises(InputError, match=message):
        grade("custom", ["a", "b"], ["a", "x"], **options)
