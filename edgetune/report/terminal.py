"""The report's table on the terminal: stderr, since stdout is for results."""

from __future__ import annotations

import sys
from typing import Any

from edgetune.report.distillation import tell_difference
from edgetune.report.evaluation_text import answer_lines, headline_title
from edgetune.report.figures import Definitions, is_ratio, write_value
from edgetune.report.format import (
    NONE,
    depth_of,
    devices_of,
    measured,
    percent,
    rate,
    short_name,
    size,
    small,
    value_of,
)
from edgetune.report.summary import headline_metric
from edgetune.report.tables import not_measured_lines

_SCORE = "score"
_TITLES = ("model", _SCORE, "ppl", "KL", "top-1", "size", "tok/s", "memory", "GPU mem")


def print_summary(report: dict[str, Any], file: Any = None) -> None:
    """Print the headline, the table of models, and the gates that failed, to stderr."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(file=file or sys.stderr, highlight=False)
    passed = report["verdict"] == "pass"
    console.print()
    console.print(f"[bold]{escape(report['headline']['text'])}[/bold]")
    for line in answer_lines(report):
        console.print(escape(line))
    if report["models"]:
        places: list[tuple[dict[str, Any], str | None]] = []
        for model in report["models"]:
            places += [(model, device) for device in devices_of(model)] or [(model, None)]
        score, definitions = headline_metric(report), report["definitions"]
        rows = [_cells(model, device, score, definitions) for model, device in places]
        depth = depth_of(report["models"])
        named = {_SCORE: headline_title(report).lower()}
        named |= {"tok/s": f"tok/s @{depth}"} if depth is not None else {}
        titles = [named.get(title, title) for title in _TITLES]
        if all(row[-1] == NONE for row in rows):
            titles, rows = titles[:-1], [row[:-1] for row in rows]
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= console.width else 1
        table = Table(box=None, header_style="dim", padding=(0, gap, 0, 0), pad_edge=False)
        for title, width in zip(titles, widths, strict=True):
            is_name = title == "model"  # which is cut where it is narrow: a number never is
            table.add_column(
                title, justify="left" if is_name else "right", no_wrap=True,
                min_width=None if is_name else width,
            )  # fmt: skip
        for (model, _), cells in zip(places, rows, strict=True):
            chosen = model["name"] == report["headline"].get("model")
            table.add_row(*map(escape, cells), style="green" if chosen else None)
        console.print(table)
    for line in not_measured_lines(report["models"]):
        console.print(f"[yellow]{escape(line)}[/yellow]")
    if (found := report.get("distillation")) and found["verdict"] != "won":
        over = escape(f"{tell_difference(found, report['definitions'])} over no teacher")
        console.print(f"[red]distillation: {found['verdict']}, {over}[/red]")
    for gate in report["gates"]:
        if not gate["ok"]:
            value = "not measured" if gate["value"] is None else f"{gate['value']:.4g}"
            console.print(f"[red]gate failed: {escape(str(gate['name']))}: {value}[/red]")
    color = "green" if passed else "red"
    console.print(f"verdict: [bold {color}]{report['verdict']}[/bold {color}]")


def _cells(
    model: dict[str, Any], device: str | None, metric: str, definitions: Definitions
) -> list[str]:
    found = measured(model, metric, device)
    bounds = found.get("ci95") if found else None
    factor = 50 if is_ratio(metric, definitions) else 0.5
    around = f" ±{factor * (bounds[1] - bounds[0]):.1f}" if bounds else ""
    score = write_value(value_of(model, metric, device), metric, definitions)
    return [
        _name(model) + (f" ({device})" if device == "cuda" else ""),
        score if score == NONE else score + around,
        small(value_of(model, "perplexity", device)),
        small(value_of(model, "kl_answer_tokens", device)),
        percent(value_of(model, "top1_answer_tokens", device)),
        size(model["bytes"]),
        rate(value_of(model, "decode_tokens_per_s", device)),
        size(value_of(model, "peak_rss_bytes", device)),
        size(value_of(model, "peak_vram_bytes", device)),
    ]


def _name(model: dict[str, Any]) -> str:
    """Short enough for a terminal of 80 columns."""
    return f"{short_name(model)} {model['format']}" if model["role"] == "file" else model["name"]
