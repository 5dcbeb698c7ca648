"""Rows are counted that train a token, not its occurrences nor those of prompts."""

from __future__ import annotations

from edgetune.data.answer_tokens import count_answer_tokens, often_in_answers
from edgetune.data.encoded import Encoded

ROWS = [
    Encoded([1, 2, 3, 3], [0, 0, 1, 1], False),
    Encoded([3, 1, 4], [0, 1, 1], False),
    Encoded([5, 4], [0, 1], False),
]


def test_a_row_counts_once_and_prompts_not_at_all() -> None:
    assert count_answer_tokens(ROWS) == {3: 1, 1: 1, 4: 2}
    assert count_answer_tokens([]) == {}


def test_rare_tokens_are_left_out() -> None:
    assert often_in_answers(ROWS, 0.5) == {4: 2}
    assert often_in_answers(ROWS, 0.01) == {4: 2, 3: 1, 1: 1}
