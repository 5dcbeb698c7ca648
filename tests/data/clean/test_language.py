"""Languages: rows in others than the wanted ones are dropped, unclear ones pass."""

from __future__ import annotations

import pytest

from edgetune.data.clean import clean_rows
from edgetune.recipe import CleanSection
from tests.data.clean.rows import make_row

GERMAN = "Der Zug fährt um Viertel nach neun ab und braucht etwa vier Stunden bis an die Küste."
ENGLISH = "The train leaves at a quarter past nine and takes about four hours to the coast."
JAPANESE = "列車は九時十五分に出発し、海岸まで約四時間かかります。パンとチーズを持って行きました。"


@pytest.mark.parametrize(
    ("text", "language"), [(GERMAN, "de"), (JAPANESE, "ja"), (ENGLISH, None), ("Danke!", None)]
)
def test_rows_in_other_languages_are_dropped(text: str, language: str | None) -> None:
    section = CleanSection(language="fix", languages=("en",))
    (cleaned,) = clean_rows([make_row(text, text)], section)
    reasons = [] if language is None else [f"language {language}"]
    assert [finding.reason for finding in cleaned.findings] == reasons
    assert (cleaned.row is None) == (language is not None)


def test_any_language_is_wanted_where_none_is_named() -> None:
    (cleaned,) = clean_rows([make_row(GERMAN)], CleanSection(language="fix"))
    assert cleaned.row is not None and cleaned.findings == ()


def test_code_is_in_no_language() -> None:
    code = "```python\n" + "für = [größe for größe in straßen if größe.breite]\n" * 5 + "```"
    section = CleanSection(language="fix", languages=("en",))
    (cleaned,) = clean_rows([make_row("Why does this fail?", code)], section)
    assert cleaned.row is not None
