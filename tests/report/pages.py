"""What tests ask of a page: its scripts are ours, its tags close, its numbers are defined."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from edgetune.report.scripts import read_script

VOID = {"meta", "br", "line", "circle", "rect", "polyline", "input"}
SCRIPTS = ("page.js", "flips.js")


class Checker(HTMLParser):
    """Collects tags and attributes, and notes every end tag that closes another's element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.cells: list[tuple[dict[str, str | None], str]] = []
        self.headings: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "td":
            self.cells.append((dict(attrs), ""))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            attributes, text = self.cells[-1]
            self.cells[-1] = (attributes, text + data)


def check(page: str) -> Checker:
    """Return what a page is made of; its elements must be whole."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.faults and not checker.open
    return checker


def without_scripts(page: str) -> str:
    """Return the page without our scripts and its JSON."""
    for name in SCRIPTS:
        page = page.replace(f"<script>{read_script(name)}</script>", "")
    return re.sub(r'<script type="application/json" id="[\w-]+">[^<]*</script>', "", page)
