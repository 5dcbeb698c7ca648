"""The page in a real browser: rows are found and read, and keys, touch and paper do as well."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgetune.report.html import render_html
from tests.browser import Browser, Page

from .conftest import SampleRun
from .large import HOSTILE, make_report

pytestmark = pytest.mark.browser
#: Seconds of CPU, on a machine whose load is not known: the page's own work, not its wait.
OPENED, FILTERED = 2.0, 0.2
NARROW = 360


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A page of 10,000 rows, 40 models and 150 labels, and its flips."""
    folder = tmp_path_factory.mktemp("page")
    report, flips = make_report(SampleRun(folder / "run").finish().report())
    page = folder / "report.html"
    page.write_text(render_html(report, json.dumps(flips, ensure_ascii=False)), encoding="utf-8")
    return page, flips


@pytest.fixture
def page(browser: Browser, large: tuple[Path, dict[str, Any]]) -> Page:
    found = browser.open(large[0])
    found.run("localStorage.clear()")
    return found


def choose(page: Page, name: str, value: str) -> None:
    page.run(
        f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change')) }})"
        f"(document.getElementById('{name}'))"
    )


def find(page: Page, text: str) -> str:
    """Type into the search field and return what is said of the rows then."""
    page.run("document.getElementById('flips-search').value = ''")
    page.run("document.getElementById('flips-search').focus()")
    before = page.text("#flips-said")
    page.type(text)
    page.wait(f"document.getElementById('flips-said').innerText !== {json.dumps(before)}")
    return page.text("#flips-said")


def test_flips_are_chosen_searched_and_read_side_by_side(
    page: Page, large: tuple[Path, dict[str, Any]]
) -> None:
    flips = large[1]
    names, rows = flips["models"], flips["rows"]
    recommended = page.run("document.getElementById('flips-second').selectedOptions[0].text")
    scheme = recommended.removeprefix("quickstart-").removesuffix(".gguf")
    assert page.text("h1").startswith(f"{scheme} perhaps keeps the score")
    first, second = names.index("teacher"), names.index(recommended)
    lost = [row for row in rows if row["right"][first] and not row["right"][second]]
    gained = [row for row in rows if row["right"][second] and not row["right"][first]]
    assert page.text("#flips-said") == (f"Rows 1 to 25 of {len(lost)}; {len(rows):,} rows in all")
    shown = page.run(
        "[...document.querySelectorAll('#flips-list li')].map(e => e.innerText.split('\\n'))"
    )
    assert len(shown) == 25
    texts = "\n".join(shown[0])
    assert lost[0]["expected"] in texts and lost[0]["prompt"][:20] in texts
    assert lost[0]["texts"][lost[0]["answers"][second]] in texts
    assert "teacher right" in texts and f"{recommended} wrong" in texts
    page.click("#flips-on")
    assert page.text("#flips-said").startswith("Rows 26 to ")
    page.click("#flips-swap")
    swapped = f"Rows 1 to {min(25, len(gained))} of {len(gained)};" if gained else "No such rows"
    assert page.text("#flips-said").startswith(swapped)
    choose(page, "flips-kind", "all")
    word = rows[4321]["prompt"].split()[-1]
    assert find(page, f"4321 {word}").startswith("Rows 1 to 1 of 1;")
    assert page.run("document.querySelector('#flips-list mark').innerText") == "4321"
    page.close()


def test_text_of_rows_stays_text(page: Page) -> None:
    choose(page, "flips-kind", "all")
    assert find(page, "taken").startswith("Rows 1 to 1 of 1;")
    page.wait("document.querySelector('#flips-list .body').innerText.includes('<script>')")
    assert HOSTILE[:40] in page.text("#flips-list .body")
    assert page.run("document.title") != "taken" and not page.faults
    assert not page.requested
    page.close()


def test_a_page_of_ten_thousand_rows_and_forty_models_is_fast(
    browser: Browser, large: tuple[Path, dict[str, Any]]
) -> None:
    page = browser.open("about:blank")
    page.send("Performance.enable", timeDomain="threadTicks")

    def spent() -> float:
        found = page.send("Performance.getMetrics")["metrics"]
        return {one["name"]: one["value"] for one in found}["TaskDuration"]

    before = spent()
    page.load(large[0])
    page.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    assert spent() - before < OPENED
    for kind in ("all", "differ", "lost"):
        before = spent()
        choose(page, "flips-kind", kind)
        assert spent() - before < FILTERED
    choose(page, "flips-kind", "all")
    for text in ("card", "label_01"):
        before = spent()
        find(page, text)
        assert spent() - before < FILTERED
    assert page.run("document.querySelectorAll('*').length") < 20_000
    page.close()


def test_keys_reach_everything(page: Page) -> None:
    page.run("document.getElementById('flips-on').focus()")
    page.press("n")
    assert page.text("#flips-said").startswith("Rows 26 to 50")
    assert page.run("document.activeElement.id") == "flips-said"
    page.press("p")
    assert page.text("#flips-said").startswith("Rows 1 to 25")
    page.press("/")
    assert page.run("document.activeElement.id") == "flips-search"
    page.run("document.querySelector('th a[data-metric=accuracy]').focus()")
    page.press("Enter")
    assert page.run("document.getElementById('definition').matches(':popover-open')")
    words = page.text("#definition")
    assert "fraction of rows whose label is right" in words.lower() and "10,000" in words
    page.press("Escape")
    assert not page.run("document.getElementById('definition').matches(':popover-open')")
    assert page.run("document.activeElement.dataset.metric") == "accuracy"
    page.close()


def test_a_number_says_its_n_when_it_is_touched(
    browser: Browser, large: tuple[Path, dict[str, Any]]
) -> None:
    page = browser.open(large[0], width=NARROW, height=740, touch=True)
    page.click("td[data-metric=decode_tokens_per_s]")
    page.wait("document.getElementById('definition').matches(':popover-open')")
    assert "n = 300" in page.text("#definition")
    page.close()


@pytest.mark.parametrize("width", [NARROW, 820, 1200])
def test_nothing_is_wider_than_the_view(
    browser: Browser, large: tuple[Path, dict[str, Any]], width: int
) -> None:
    page = browser.open(large[0], width=width)
    assert page.run("document.documentElement.scrollWidth - innerWidth") == 0
    if width == NARROW:
        small = page.run(
            "[...document.querySelectorAll('button, select, input[type=search], thead a, nav a')]"
            ".filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 40)"
            ".map(e => e.outerHTML)"
        )
        assert not small
    page.close()


def test_light_and_dark_are_the_systems_or_chosen_and_remembered(page: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.run(paper)
    page.emulate(dark=True)
    dark = page.run(paper)
    assert dark != light
    page.run("document.getElementById('theme-light').click()")
    assert page.run(paper) == light
    page.emulate(dark=False)
    page.run("document.getElementById('theme-dark').click()")
    assert page.run(paper) == dark
    page.send("Page.reload")
    page.wait("document.readyState === 'complete' && document.getElementById('theme-dark').checked")
    assert page.run(paper) == dark
    page.emulate(paper=True)
    assert page.run("getComputedStyle(document.documentElement).colorScheme") == "light"
    page.run("localStorage.clear()")
    page.close()


def test_paper_shows_everything(page: Page, tmp_path: Path) -> None:
    page.emulate(paper=True)
    page.run("dispatchEvent(new Event('beforeprint'))")
    hidden = page.run(
        "[...document.querySelectorAll('main *')].filter(e => e.clientHeight && "
        "['auto', 'scroll'].includes(getComputedStyle(e).overflowY) && "
        "e.scrollHeight > e.clientHeight + 1).length"
    )
    assert hidden == 0
    assert page.run("document.querySelectorAll('details:not([open])').length") == 0
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.querySelectorAll('details:not([open])').length") > 0
    page.close()


def test_tables_of_another_model_are_drawn(page: Page) -> None:
    before = page.text("#tables table")
    choose(page, "table-model", "base")
    assert page.text("#tables table") != before
    assert page.text("#tables-said") == "Tables of base"
    first = page.run(
        "(c => [c.dataset.metric, c.dataset.n, c.dataset.label])"
        "(document.querySelector('#tables tbody td'))"
    )
    assert first[0] == "part_rows" and int(first[1]) > 0 and first[2] == "Rows"
    assert not page.faults
    page.close()


def test_screen_readers_are_told_the_structure(page: Page) -> None:
    tree = page.read_tree()
    roles = {one["role"] for one in tree}
    assert {"banner", "main", "contentinfo", "navigation", "search", "status"} <= roles
    levels = [one["level"] for one in tree if one["role"] == "heading"]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    for role in ("table", "image", "button", "combobox", "searchbox", "link", "radio"):
        found = [one for one in tree if one["role"] == role]
        assert found and all(one["name"] for one in found), role
    page.close()


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (NARROW, False)])
def test_axe_finds_nothing(
    sample: SampleRun, browser: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    axe = Path(os.environ.get("EDGETUNE_CLIENTS", "build/clients")) / "node_modules/axe-core"
    if not axe.is_dir():
        pytest.skip("no axe-core here: npm install --prefix build/clients axe-core")
    report, flips = make_report(sample.report(), models=14, rows=200, labels=8)
    path = tmp_path / "report.html"
    path.write_text(render_html(report, json.dumps(flips)), encoding="utf-8")
    page = browser.open(path, width=width, dark=dark)
    page.run((axe / "axe.min.js").read_text(encoding="utf-8") + "; 1")
    found = page.run(
        "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}).then("
        "r => r.violations.map(v => [v.id, v.nodes.length, v.nodes[0].html.slice(0, 200),"
        " v.nodes[0].failureSummary.slice(0, 300)]))"
    )
    assert not found
    page.close()
