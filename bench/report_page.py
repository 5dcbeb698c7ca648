"""Measure the report's page in Chromium: 10,000 rows, 40 models and 150 labels.

    python bench/report_page.py --json

Figures, of CPU time of the page's own thread, so that other jobs on the machine do not count:

- open_cpu_s: from the address to the first picture, median of `--repeats`;
- filter_cpu_s: the longest of choosing a kind of rows and of searching them;
- page_bytes: of the file; elements: of the page once it is open.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgetune.report.html import render_html  # noqa: E402 - the root is known now
from tests.browser import Browser, Page  # noqa: E402
from tests.report.conftest import SampleRun  # noqa: E402
from tests.report.large import make_report  # noqa: E402

CHOOSE = """(e => {{ e.value = {value!r}; e.dispatchEvent(new Event({event!r})) }})
(document.getElementById({name!r}))"""


def spent(page: Page) -> float:
    """Return the seconds of CPU that the page's thread has taken."""
    found = page.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in found if one["name"] == "TaskDuration"))


def measure_page(browser: Browser, path: Path) -> dict[str, float]:
    """Return the CPU seconds of one opening and of the slowest filter."""
    page = browser.open("about:blank")
    page.send("Performance.enable", timeDomain="threadTicks")
    before = spent(page)
    page.load(path)
    page.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    opened, slowest = spent(page) - before, 0.0
    changes = [("flips-kind", kind, "change") for kind in ("all", "differ", "lost", "all")]
    changes += [("flips-search", text, "input") for text in ("card", "label_01", "zzz")]
    for name, value, event in changes:
        before = spent(page)
        page.run(CHOOSE.format(name=name, value=value, event=event))
        page.run("new Promise(done => setTimeout(done, 150))")
        slowest = max(slowest, spent(page) - before)
    elements = page.run("document.querySelectorAll('*').length")
    page.close()
    return {"open": opened, "filter": slowest, "elements": elements}


def main() -> None:
    """Make the page, open it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report, flips = make_report(SampleRun(Path(folder) / "run").finish().report())
        path = Path(folder) / "report.html"
        path.write_text(render_html(report, json.dumps(flips, ensure_ascii=False)), "utf-8")
        browser = Browser()
        found = [measure_page(browser, path) for _ in range(arguments.repeats)]
        browser.close()
        figures: dict[str, Any] = {
            "open_cpu_s": round(statistics.median(one["open"] for one in found), 3),
            "filter_cpu_s": round(max(one["filter"] for one in found), 3),
            "page_bytes": path.stat().st_size,
            "elements": found[-1]["elements"],
            "rows": len(flips["rows"]), "models": len(flips["models"]),
        }  # fmt: skip
    print(
        json.dumps(figures)
        if arguments.json
        else "\n".join(f"{k}: {v}" for k, v in figures.items())
    )


if __name__ == "__main__":
    main()
