"""Slices hold the rows that share a value."""

from __future__ import annotations

from edgetune.evaluate.predictions import Question
from edgetune.evaluate.slices import VALUES, slice_rows


def test_thirds_by_length_hold_every_row_once_and_keep_equal_lengths_together() -> None:
    questions = [Question("x" * length, "") for length in (5, 1, 3, 3, 2, 9, 4, 3, 8)]
    found = slice_rows(questions)
    assert [one.value for one in found] == ["short", "medium", "long"]
    assert sorted(row for one in found for row in one.rows) == list(range(9))
    lengths = [{len(questions[row].prompt) for row in one.rows} for one in found]
    assert lengths == [{1, 2, 3}, {4, 5}, {8, 9}] or not set.intersection(*lengths)


def test_rows_of_one_length_are_no_slices() -> None:
    assert slice_rows([Question("abc", "") for _ in range(5)]) == []
    assert slice_rows([]) == []


def test_columns_and_labels_are_slices_by_value() -> None:
    rows = [("a", "de"), ("b", None), ("a", "en"), (" a", "de")]
    questions = [Question("p", label, columns={"lang": lang}) for label, lang in rows]
    found = {(s.column, s.value): list(s.rows) for s in slice_rows(questions, ["lang"], True)}
    assert found == {
        ("label", "a"): [0, 2, 3], ("label", "b"): [1], ("lang", "de"): [0, 3], ("lang", "en"): [2],
    }  # fmt: skip


def test_of_a_column_of_names_only_the_frequent_are_kept() -> None:
    questions = [Question("p", "", columns={"id": n // 2 if n < 20 else n}) for n in range(900)]
    found = slice_rows(questions, ["id"])
    assert len(found) == VALUES
    assert {str(n) for n in range(10)} <= {one.value for one in found}
