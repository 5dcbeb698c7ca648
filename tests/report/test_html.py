"""The page stands alone, says what the figures say, escapes what data says, and fits a phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import markupsafe
import pytest

from edgetune.facts import QuantizeFacts
from edgetune.report.axes import fit_axis
from edgetune.report.build import _searches
from edgetune.report.html import render_html
from edgetune.report.scripts import read_script
from edgetune.report.svg import Point, scatter
from tests.browser import Browser

from .conftest import SampleRun
from .pages import SCRIPTS, check, without_scripts


def test_page_is_whole_and_loads_nothing(sample: SampleRun) -> None:
    page = render_html(sample.report())
    loading = {"src", "href", "srcset", "data", "action"}
    ids = {value for _, name, value in check(page).attributes if name == "id"}
    found = [value for _, name, value in check(page).attributes if name in loading]
    assert all(value and value[0] == "#" and value[1:] in ids for value in found)
    assert not re.search(r"url\(|@import|<script|<link|https?:", without_scripts(page))
    for name in SCRIPTS:
        assert not re.search(r"https?:|fetch|XMLHttp|import\b|innerHTML|eval\(", read_script(name))
    for title in ("Gates", "Models", "Quality against cost", "Distillation", "Training", "Lineage"):
        assert f"<h2>{title}</h2>" in page
    assert (
        page.count('<svg viewBox="0 0 460') == 8
    )  # four of quality, one of distillation, three curves


def test_data_cannot_write_markup(sample: SampleRun) -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    for model in sample.models:
        model["name"] += evil
        model["scheme"] += evil
    made = sample.report()
    made["models"] = sample.models
    made["headline"] = {"text": evil, "model": sample.models[5]["name"], "ratio": 2.0}
    made["warnings"] = [{"stage": evil, "text": evil}]
    made["refused"] = [{"format": evil, "scheme": evil, "why": evil}]
    made["machine"] = {evil: evil}
    made["recipe"]["name"] = made["name"] = evil
    made["gates"] = [{"name": evil, "limit": 1, "value": None, "ok": False}]
    page = render_html(made)
    check(page)
    assert "<img" not in page
    assert str(markupsafe.escape(evil)) in page


def test_distillation_that_did_not_win_is_red(sample: SampleRun) -> None:
    report = sample.report()
    assert "note bad" not in render_html(report)
    report["distillation"] |= {"verdict": "no significant difference", "difference": 0.004}
    page = render_html(report)
    assert '<p class="note bad"><b>Distillation did not win:</b> +0.4 points' in page


def test_labels_keep_off_each_other() -> None:
    points = [Point(f"label {n}", "gguf", 5 + n % 4, 0.5 + n % 3 / 40, 0.4, 0.6) for n in range(9)]
    x = fit_axis("x", [p.x for p in points], str, log=True)
    y = fit_axis("y", [0.4, 0.6], str)
    drawn = scatter(points, x, y, "crowd")
    found = re.findall(
        r'class="label" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]*)', drawn
    )
    assert len(found) == 9
    boxes = []
    for left, bottom, anchor, text in found:
        width = 6 * len(text)
        start = float(left) - {"start": 0, "middle": width / 2, "end": width}[anchor]
        boxes.append((start, float(bottom) - 9, start + width, float(bottom)))
    for at, a in enumerate(boxes):
        for b in boxes[:at]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [
        (0.0, 600.0, False),
        (0.843, 0.98, False),
        (1e-8, 0.03, True),
        (3e6, 3.1e6, True),
        (1, 9, True),
    ],
)
def test_ticks_are_few_and_inside(low: float, high: float, log: bool) -> None:
    axis = fit_axis("x", [low, high], str, log=log)
    ticks = axis.ticks()
    assert len(ticks) <= 6
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert len(ticks) >= (1 if high / max(low, 1e-9) < 2 and log else 3)


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 400, 820, 1200])
def test_nothing_overflows(sample: SampleRun, tmp_path: Path, browser: Browser, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_html(sample.report()), encoding="utf-8")
    page = browser.open(path, width=width)
    wide = page.run(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('pre, svg, .region') &&"
        "e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length"
    )
    assert page.run("document.querySelectorAll('td').length") > 100
    assert page.run("document.documentElement.scrollWidth - innerWidth") == 0
    assert wide == 0
    page.close()


SEARCH: dict[str, Any] = {
    "format": "gguf",
    "results": [
        {"name": "auto-2.5MB", "bytes": 2_500_000, "bits_per_weight": 4.6, "kl_estimated": 0.011,
         "kl_measured": 0.012, "kl_after": 0.0061},
    ],
    "stock": [
        {"name": "Q4_K_M", "bytes": 2_600_000, "bits_per_weight": 4.9, "kl_estimated": 0.03,
         "kl_measured": 0.031},
        {"name": "Q6_K", "bytes": 3_400_000, "bits_per_weight": 6.6, "kl_estimated": 0.002,
         "kl_measured": 0.0021},
    ],
    "frontier": [
        {"name": "", "bytes": n, "bits_per_weight": 1.0, "kl_estimated": k, "kl_measured": k}
        for n, k in ((2_400_000, 0.02), (2_500_000, 0.012), (3_000_000, 0.001))
    ],
    "rank_correlation": 0.987, "pairs": 24, "positions": 4096,
}  # fmt: skip


def test_quants_that_were_optimized_say_on_how_many_rows() -> None:
    kept = {"format": "gguf", "name": "auto-2.5MB", "kl_after": 0.0061, "kept": True, "rows": 64}
    lost = {**kept, "name": "auto-3MB", "kept": False}
    results = [{"name": "auto-2.5MB"}, {"name": "auto-3MB"}]
    found = _searches(QuantizeFacts(search={"results": results}, requantized=[kept, lost]))
    rows = [(one["kl_after"], one["kl_after_rows"]) for one in found[0]["results"]]
    assert rows == [(0.0061, 64), (None, None)]


def test_a_search_is_shown_with_stock_mixes_and_its_choice_marked(
    sample: SampleRun,
) -> None:
    from edgetune.report.markdown import render_markdown

    report = sample.report()
    onnx = {
        **SEARCH,
        "format": "onnx",
        "results": [{**SEARCH["results"][0], "name": "auto-kl0.02"}],
    }
    found = {**report, "searches": [SEARCH, onnx]}
    page = render_html(found)
    assert "Quality per byte" in page and "0.987" in page
    assert page.count('class="chosen"') >= 2 and "auto-2.5MB" in page and "auto-kl0.02" in page
    assert '<polyline class="curve eval"' in page.partition("Quality per byte")[2]
    assert "0.0061" in page and "0.0061" in render_markdown(found)
    assert "Quality per byte" not in render_html(report)
