"""The page loads nothing, names no model in what is shown, and no text of a row is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.votes.page import decode_key, read_page

from .pages import HOSTILE, make_page


class Tags(HTMLParser):
    """Collects what a browser would make elements of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def test_no_text_of_a_row_becomes_markup() -> None:
    page, _ = make_page()
    tags = Tags()
    tags.feed(page)
    assert tags.tags.count("script") == 2 and "img" not in tags.tags
    assert HOSTILE not in page and "default-src 'none'" in page
    assert not re.search(r"\bsrc=|https?:|@import|url\(", page.replace("src=x", ""))


def test_models_are_only_in_the_encoded_key() -> None:
    page, key = make_page()
    assert "secret-" not in page and key.models == ["secret-0", "secret-1"]
    assert decode_key(key.encode(), "here") == key


def test_a_page_is_read_back(tmp_path: Path) -> None:
    page, key = make_page(models=3)
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    found, items = read_page(path)
    assert found == key and len(items) == 18
    item = key.items[4]
    assert items[4]["answers"][0].startswith(f"answer {item.first} of {item.row} ")
    assert items[4]["turns"] == [["user", f"question {item.row} {HOSTILE}"]]


def test_other_files_and_keys_are_refused(tmp_path: Path) -> None:
    page, key = make_page()
    for text in ("", "<html></html>", page.replace(key.encode(), "AAAA")):
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"not a page|key"):
            read_page(tmp_path / "page.html")


def test_the_id_depends_on_every_text() -> None:
    ids = {make_page(rows)[1].page for rows in (5, 6, 7)} | {make_page(6, 3)[1].page}
    assert len(ids) == 4 and make_page()[1].page == make_page()[1].page


def test_a_confidential_page_says_so() -> None:
    assert "Confidential" in make_page(confidential=True)[0]
    assert "Confidential" not in make_page()[0]
