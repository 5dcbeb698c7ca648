"""People vote on the page in a real browser: from the first vote to the export that is counted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from edgetune.votes.ballots import read_ballots
from edgetune.votes.results import count_all
from tests.browser import Browser, Page

from .pages import HOSTILE, make_page

pytestmark = pytest.mark.browser
SLIP = 0.3  # seconds in which a second vote is taken for a slip


def start(browser: Browser, path: Path, name: str, **view: Any) -> Page:
    """Open the page and begin to vote under a name."""
    tab = browser.open(path, **view)
    tab.click("#name")
    tab.run("document.getElementById('name').value = ''")
    tab.type(name)
    tab.click("#go")
    assert tab.text("#count").startswith("0 of ")
    return tab


def exported(tab: Page) -> dict[str, Any]:
    """Return what the page exports as text."""
    tab.click("#export")
    found: dict[str, Any] = json.loads(tab.run("document.getElementById('export-text').value"))
    tab.press("Escape")
    assert tab.run("!document.getElementById('export-box').open")
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "page.html"
    found.write_text(make_page(6)[0], encoding="utf-8")
    return found


def test_from_first_vote_to_export(browser: Browser, path: Path, tmp_path: Path) -> None:
    tab = start(browser, path, "Zoë  <b>")
    try:
        for n, key in enumerate(("1", "2", "3", "4")):
            assert tab.text("#vote-title") == f"Comparison {n + 1} of 6"
            time.sleep(SLIP)
            tab.press(key)
        assert tab.text("#count") == "4 of 6" and "Both bad" in tab.text("#said")
        tab.press("u")
        time.sleep(SLIP)
        # A slip: the second key comes before anyone can have read the next comparison.
        key = "new KeyboardEvent('keydown', {key: '1', bubbles: true})"
        tab.run(f"document.body.dispatchEvent({key}), document.body.dispatchEvent({key})")
        assert tab.text("#count") == "4 of 6"
        tab.load(path)  # a reload in the middle
        assert tab.text("#count") == "4 of 6" and tab.text("#vote-title") == "Comparison 5 of 6"
        time.sleep(SLIP)
        tab.click("[data-vote=second]")
        time.sleep(SLIP)
        tab.click("[data-vote=tie]")
        assert tab.run("document.getElementById('vote').hidden")
        assert "Thank you" in tab.text("#done")
        tab.save_downloads(tmp_path)
        tab.click("#export-done")
        tab.click("#download")
        until = time.monotonic() + 10
        while not (files := list(tmp_path.glob("votes-*.json"))) and time.monotonic() < until:
            time.sleep(0.05)
        key, (ballot,) = read_ballots(files)
        assert ballot.name == "Zoë <b>" and ballot.kind == "person"
        choices = [ballot.votes[n, False].choice for n in range(6)]
        assert choices == ["first", "second", "tie", "first", "second", "tie"]
        assert count_all(key, [ballot])["people"]["votes"] == 6
        assert HOSTILE not in files[0].read_text()
        assert not tab.requested and not tab.faults
    finally:
        tab.close()


def test_on_a_phone(browser: Browser, path: Path) -> None:
    tab = start(browser, path, "phone", width=360, height=640, touch=True)
    try:
        time.sleep(SLIP)
        tab.click("[data-vote=first]")
        assert tab.text("#count") == "1 of 6"
        tab.click("#undo")
        assert tab.text("#count") == "0 of 6"
        time.sleep(SLIP)
        tab.click("[data-vote=bad]")
        sizes = tab.run(
            "[...document.querySelectorAll('button')].filter(b => b.offsetParent)"
            ".map(b => [b.offsetWidth, b.offsetHeight])"
        )
        assert len(sizes) == 6 and all(min(size) >= 44 for size in sizes)
        assert tab.run("document.documentElement.scrollWidth") <= 360
        # Vote buttons are in reach without scrolling.
        bottom = tab.run("document.getElementById('choices').getBoundingClientRect().bottom")
        assert bottom <= 641
        assert [one["vote"] for one in exported(tab)["votes"]] == ["bad"]
        assert not tab.faults
    finally:
        tab.close()


def test_voters_of_one_browser_are_apart_and_go_on_by_name(browser: Browser, path: Path) -> None:
    first = start(browser, path, "one")
    time.sleep(SLIP)
    first.press("1")
    one = exported(first)
    first.close()
    second = start(browser, path, "two")
    assert exported(second)["votes"] == []
    assert exported(second)["voter"]["id"] != one["voter"]["id"]
    second.close()
    again = browser.open(path)
    try:
        assert again.run("document.getElementById('name').value") == "two"
        again.run("document.getElementById('name').value = 'One'")
        again.click("#go")
        assert again.text("#count") == "1 of 6"
        assert exported(again)["votes"] == one["votes"]
    finally:
        again.close()


def test_texts_are_shown_as_they_are_and_name_no_model(browser: Browser, path: Path) -> None:
    tab = start(browser, path, "reader", dark=True)
    try:
        assert HOSTILE in tab.text("#question") and HOSTILE in tab.text("#one")
        assert "answer" in tab.text("#two") and tab.run("document.title") != "owned"
        assert "secret-" not in tab.run("document.documentElement.outerHTML")
        assert tab.run("document.querySelectorAll('main img').length") == 0
        assert not tab.faults and not tab.requested
    finally:
        tab.close()


def test_a_screen_reader_is_told_what_a_button_does(browser: Browser, path: Path) -> None:
    tab = start(browser, path, "listener", width=360)
    try:
        tree = tab.read_tree()
        buttons = {node["name"].strip() for node in tree if node["role"] == "button"}
        assert {"Answer 1 is better", "Answer 2 is better", "Tie", "Both bad", "Undo"} <= buttons
        headings = [node["name"] for node in tree if node["role"] == "heading"]
        assert headings == ["Comparison 1 of 6", "Answer 1", "Answer 2"]
        focus = tab.run("document.activeElement.id")
        assert focus == "vote-title"
        time.sleep(SLIP)
        tab.press("Tab")
        tab.press("3")
        assert tab.text("#said") == "Tie. 1 of 6 votes saved."
    finally:
        tab.close()


def test_keys_do_not_vote_while_a_name_is_typed(browser: Browser, path: Path) -> None:
    tab = browser.open(path)
    try:
        tab.click("#name")
        for key in "1234":
            tab.press(key)
        assert tab.run("document.getElementById('vote').hidden")
        tab.press("Enter")
        assert tab.text("#count") == "0 of 6"
        assert exported(tab)["voter"]["name"].endswith("1234")
    finally:
        tab.close()
