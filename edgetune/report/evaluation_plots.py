"""Plots of the graded answers: a dot and its interval for each model, on one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edgetune.report.axes import Axis, fit_axis
from edgetune.report.figures import MINUS, Definitions, is_ratio, write_difference, write_value
from edgetune.report.format import measured, percent, significant
from edgetune.report.svg import Point, draw_mark, draw_picture, draw_segment, draw_text

WIDTH, SIDE, STEP, TOP, BOTTOM = 380, 10, 32, 8, 26  # pixels; names stand above their bars


def plot_scores(models: Sequence[dict[str, Any]], metric: str, definitions: Definitions) -> str:
    """Return a dot and interval of a metric for each model; empty where under two have it."""
    rows = []
    for model in models:
        found = measured(model, metric)
        if found is not None and found["value"] == found["value"]:
            low, high = found.get("ci95") or (None, None)
            point = Point(str(model["name"]), model["format"], found["value"], 0.0, low, high)
            rows.append((point, write_value(found["value"], metric, definitions)))
    if len(rows) < 2:
        return ""
    rows, left_out = _without_far(rows, models)
    ratio = is_ratio(metric, definitions)
    bounds = (0.0, 1.0) if ratio else (float("-inf"), float("inf"))
    title = definitions.get(metric, {}).get("title", metric)
    axis = fit_axis(title, _ends(rows), _percent if ratio else significant, bounds=bounds)
    return draw_intervals(rows, axis, f"{title} of {len(rows)} models, 95 % intervals{left_out}")


def _without_far(
    rows: list[tuple[Point, str]], models: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[Point, str]], str]:
    """Leave the untouched base out where beside it all others are one dot; it is in the table."""
    bases = {str(model["name"]) for model in models if model["role"] == "base"}
    others = [point.x for point, _ in rows if point.label not in bases]
    if len(others) < 2:
        return rows, ""
    width = max(others) - min(others)
    near = [
        (point, text) for point, text in rows
        if point.label not in bases or min(others) - point.x <= 2 * width + 1e-9
    ]  # fmt: skip
    gone = [f"{point.label} {text}" for point, text in rows if (point, text) not in near]
    return near, f"; not drawn: {', '.join(gone)}" if gone else ""


def plot_differences(
    differences: Sequence[Mapping[str, Any]], definitions: Definitions,
    models: Sequence[Mapping[str, Any]],
) -> str:  # fmt: skip
    """Return a dot and interval of each difference, with a line at none."""
    formats = {model["name"]: str(model["format"]) for model in models}
    rows = []
    for one in differences:
        low, high = one.get("ci95") or (None, None)
        name = str(one["candidate"])
        point = Point(name, formats.get(name, "hf"), one["difference"], 0.0, low, high)
        rows.append((point, write_difference(one["difference"], one["metric"], definitions)))
    if len(rows) < 2:
        return ""
    ratio = is_ratio(str(differences[0]["metric"]), definitions)
    form = _points if ratio else significant
    axis = fit_axis("difference", [*_ends(rows), 0.0], form)
    reference = differences[0]["reference"]
    title = f"differences of {len(rows)} files to {reference} with 95 % intervals, in points"
    return draw_intervals(rows, axis, title, zero=True)


def draw_intervals(
    rows: Sequence[tuple[Point, str]], axis: Axis, title: str, zero: bool = False
) -> str:
    """Return the picture: of each row its name and value, and below them dot and interval."""
    height = TOP + STEP * len(rows) + BOTTOM
    span = WIDTH - 2 * SIDE
    body = []
    for tick in axis.ticks(5):
        at = SIDE + span * axis.share(tick)
        body.append(draw_segment("grid", at, TOP, at, height - BOTTOM + 4))
        body.append(draw_text("tick", at, height - 8, axis.form(tick), "middle"))
    if zero:
        at = SIDE + span * axis.share(0.0)
        body.append(draw_segment("axis", at, TOP, at, height - BOTTOM + 4))
    for number, (point, text) in enumerate(rows):
        base = TOP + STEP * number
        body.append(draw_text("name", SIDE, base + 11, _shorten(point.label)))
        body.append(draw_text("name value", WIDTH - SIDE, base + 11, text, "end"))
        if point.low is not None and point.high is not None:
            first, last = (SIDE + span * axis.share(end) for end in (point.low, point.high))
            kind = f"range {escape(point.kind)}"
            body.append(draw_segment(kind, first, base + 21, last, base + 21))
        body.append(draw_mark(point, SIDE + span * axis.share(point.x), base + 21))
    return draw_picture(height, title, body, WIDTH)


def _shorten(name: str, most: int = 44) -> str:
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}"


def _points(value: float) -> str:
    return f"{100 * value:+.3g}".replace("-", MINUS) if value else "0"


def _percent(value: float) -> str:
    return percent(value, 0)


def _ends(rows: Sequence[tuple[Point, str]]) -> list[float]:
    return [v for point, _ in rows for v in (point.x, point.low, point.high) if v is not None]
