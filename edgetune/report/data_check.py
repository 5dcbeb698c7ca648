"""The page of `edgetune data check`: one HTML file, nothing loaded from outside, no script."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from markupsafe import Markup

from edgetune.report.axes import Axis
from edgetune.report.data import LEAK, list_cleaning
from edgetune.report.jinja import html_environment, render
from edgetune.report.svg import bars


def render_check(check: Mapping[str, Any], name: str) -> str:
    """Return the page.

    Args:
        check: as :func:`edgetune.data.dataset.check.check_dataset` returns it.
        name: title of the page.
    """
    style = resources.files("edgetune.report").joinpath("style.css").read_text(encoding="utf-8")
    page = render(
        html_environment(),
        "data_check.html.j2",
        title=name,
        style=Markup(style),
        check=check,
        facts=check["facts"],
        plots=[(split, Markup(plot_lengths(one))) for split, one in check["lengths"].items()],
        found_rows=list_cleaning(check["facts"]),
        left_out_rows=_list_reasons(check["facts"]),
        leak=LEAK,
    )
    return page.lstrip()


def plot_lengths(found: Mapping[str, list[int]]) -> str:
    """Return the histogram of a split's lengths as SVG."""
    edges, counts = found["edges"], found["counts"]
    x = Axis("tokens of a row", 0, max(edges[-1], 1), False, "{:,.0f}".format)
    y = Axis("rows", 0, max([*counts, 5]) * 1.05, False, "{:,.0f}".format)
    return bars(edges, counts, x, y, "lengths in tokens")


def _list_reasons(facts: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return step, reason and rows of what was left out."""
    return [
        (step, reason, count)
        for step, reasons in facts.get("left_out", {}).items()
        for reason, count in reasons.items()
    ]
