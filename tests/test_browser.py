"""The browser of the tests opens, uses and looks at a page as a person would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .browser import Browser

pytestmark = pytest.mark.browser
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>a page</title>
<style>p { color: rgb(0, 0, 1) } @media (prefers-color-scheme: dark) { p { color: rgb(2, 0, 0) } }
@media print { p { color: rgb(0, 3, 0) } }</style>
<h1>A page</h1><p>text</p><input id="word" aria-label="a word"><input id="file" type="file">
<button onclick="document.title = document.getElementById('word').value">Take</button>
<a id="save" download="votes.json" href="data:application/json,%7B%7D">save</a>
<script>window.keys = [];
document.addEventListener('keydown', e => keys.push((e.shiftKey ? '+' : '') + e.key));
document.getElementById('file').onchange = async e => window.read = await e.target.files[0].text();
</script></html>"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text(PAGE, encoding="utf-8")
    return tmp_path / "page.html"


def test_pages_are_typed_into_and_clicked(browser: Browser, path: Path) -> None:
    page = browser.open(path)
    page.run("document.getElementById('word').focus()")
    page.type("größer <b>")
    page.click("button")
    assert page.wait("document.title") == "größer <b>"
    for key in ("ArrowDown", "1", "Enter"):
        page.press(key)
    page.press("Tab", shift=True)
    assert page.run("keys") == ["ArrowDown", "1", "Enter", "+Tab"]
    assert page.text("h1") == "A page"
    assert not page.faults and not page.requested
    page.close()


def test_the_view_is_what_is_asked_for(browser: Browser, path: Path) -> None:
    page = browser.open(path, width=360, height=640, dark=True)
    colour = "getComputedStyle(document.querySelector('p')).color"
    assert page.run("[innerWidth, innerHeight]") == [360, 640]
    assert page.run(colour) == "rgb(2, 0, 0)"
    page.emulate(dark=False)
    assert page.run(colour) == "rgb(0, 0, 1)"
    page.emulate(paper=True, still=True)
    assert page.run(colour) == "rgb(0, 3, 0)"
    assert page.run("matchMedia('(prefers-reduced-motion: reduce)').matches")
    page.close()


def test_files_go_in_and_out(browser: Browser, path: Path, tmp_path: Path) -> None:
    page = browser.open(path)
    page.save_downloads(tmp_path)
    page.click("#save")
    votes = tmp_path / "votes.json"
    for _ in range(200):
        if votes.is_file() and votes.read_text():
            break
        page.wait("new Promise(done => setTimeout(() => done(1), 20))")
    assert json.loads(votes.read_text()) == {}
    page.set_files("#file", votes)
    assert page.wait("window.read") == "{}"
    page.screenshot(tmp_path / "whole.png", whole=True)
    page.print_pdf(tmp_path / "page.pdf")
    assert (tmp_path / "whole.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    page.close()


def test_faults_requests_and_the_accessibility_tree_are_seen(
    browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "bad.html").write_text(
        "<title>t</title><h2>Second</h2><img src=none.png alt='a picture'>"
        "<script>console.error('said'); setTimeout(() => { throw new Error('thrown') })</script>"
    )
    page = browser.open(tmp_path / "bad.html")
    page.wait("1")
    assert any("said" in one for one in page.faults)
    assert any("thrown" in one for one in page.faults)
    assert [Path(one).name for one in page.requested] == ["none.png"]
    tree = page.read_tree()
    assert [one["level"] for one in tree if one["role"] == "heading"] == [2]
    assert "a picture" in [one["name"] for one in tree if one["role"] == "image"]
    with pytest.raises(RuntimeError, match="not defined"):
        page.run("nothing.there")
    with pytest.raises(RuntimeError, match="still not true"):
        page.wait("false", seconds=0.1)
    page.close()
