"""Bounds: rows too short, too long or repeating themselves."""

from __future__ import annotations

import pytest

from edgetune.data.clean import clean_rows
from edgetune.data.clean.bounds import repeated_shares
from edgetune.data.rows import Row
from edgetune.recipe import CleanSection
from tests.data.clean.rows import make_row

PROSE = (
    "The train leaves at a quarter past nine and takes about four hours to the coast. We packed "
    "bread, cheese and two books each, since the carriage with the kitchen is closed in winter. "
    "Nobody else sat near us, and so we talked about the house, the garden and the new roof."
)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("a" * 9, "shorter than min_characters"), ("a" * 10, None), ("a" * 20, None),
     ("a" * 21, "longer than max_characters")],
)  # fmt: skip
def test_length_counts_the_characters_of_all_turns(answer: str, reason: str | None) -> None:
    section = CleanSection(length="fix", min_characters=20, max_characters=30)
    (cleaned,) = clean_rows([make_row("x" * 10, answer)], section)
    assert (cleaned.row is None) == (reason is not None)
    assert [finding.reason for finding in cleaned.findings] == ([reason] if reason else [])


def test_text_that_repeats_itself_is_found_and_prose_is_not() -> None:
    loop = "I am not sure what you mean by that. " * 12
    section = CleanSection(repetition="fix")
    rows = [make_row("q", PROSE), make_row("q", loop), Row((), PROSE + loop * 3, "x:1"),
            make_row("q", "no " * 9)]  # fmt: skip
    assert [cleaned.row is None for cleaned in clean_rows(rows, section)] == [
        False, True, True, False,
    ]  # fmt: skip


def test_share_is_what_occurs_earlier() -> None:
    shares = repeated_shares([PROSE, PROSE + PROSE, "", "short"])
    assert shares[0] == 0 and 0.45 < shares[1] < 0.5 and shares[2] == shares[3] == 0
