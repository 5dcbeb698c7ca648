"""Steps of cleaning: off does nothing, warn reports, fix changes or drops."""

from __future__ import annotations

import pytest

from edgetune.data.clean import Finding, clean_rows
from edgetune.recipe import CleanSection
from tests.data.clean.rows import make_row

MAIL = "write to jane.doe@example.org"


@pytest.mark.parametrize(
    ("mode", "text", "findings"),
    [
        ("off", MAIL, ()),
        ("warn", MAIL, (Finding("pii", "email", "reported"),)),
        ("fix", "write to <EMAIL_1>", (Finding("pii", "email", "changed"),)),
    ],
)
def test_mode_of_a_step_that_changes(mode: str, text: str, findings: tuple[Finding, ...]) -> None:
    (cleaned,) = clean_rows([make_row(MAIL)], CleanSection.model_validate({"pii": mode}))
    assert cleaned.row is not None and cleaned.row.messages[0].content == text
    assert cleaned.findings == findings


def test_a_dropped_row_is_found_by_no_later_step_and_the_others_keep_their_places() -> None:
    section = CleanSection(length="fix", pii="fix", max_characters=60)
    long = make_row(MAIL + " " * 80)
    results = clean_rows([make_row("a"), long, make_row(MAIL)], section)
    assert [cleaned.row is None for cleaned in results] == [False, True, False]
    assert results[1].findings == (Finding("length", "longer than max_characters", "dropped"),)
    assert [finding.step for finding in results[2].findings] == ["pii"]


def test_a_row_in_order_is_returned_as_it_is() -> None:
    row = make_row("What is 2 + 2?", "4")
    (cleaned,) = clean_rows([row], CleanSection())
    assert cleaned.row is row and cleaned.findings == ()
