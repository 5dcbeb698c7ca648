"""Plots as SVG text. Colours are classes of the page's style sheet, so dark mode applies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from edgetune.report.axes import Axis

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 26, 40
LETTER = 6.5  # widest usual letter of an 11 px label, pixels
LINE = 12  # height of a label

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Point:
    """A model in a plot; ``kind`` is its format, ``low`` and ``high`` are its interval."""

    label: str
    kind: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A curve. ``kind`` is its style class: ``train`` or ``eval``."""

    label: str
    kind: str
    points: Sequence[tuple[float, float]]


def scatter(
    points: Sequence[Point], x: Axis, y: Axis, title: str, trail: Line | None = None
) -> str:
    """Return labelled points with error bars; labels avoid each other, the points and the bars.

    ``trail`` is a curve below them.
    """
    placed = _place_labels(points, x, y)
    body = [] if trail is None else [_polyline(trail, x, y)]
    body += [_bar(p, x, y) for p in points if p.low is not None and p.high is not None]
    body += [draw_mark(p, *_pixel(p.x, p.y, x, y)) for p in points]
    for point, box in zip(points, placed, strict=True):
        if box is None:
            continue
        left, top, right, bottom = box
        px, py = _pixel(point.x, point.y, x, y)
        near_x, near_y = min(max(px, left), right), min(max(py, top), bottom)
        if abs(near_x - px) + abs(near_y - py) > 14:
            body.append(draw_segment("leader", px, py, near_x, near_y))
        # Letters are narrower than reckoned: the text hangs on the side that faces its point.
        if left >= px:
            at, anchor = left, "start"
        else:
            at, anchor = (right, "end") if right <= px else ((left + right) / 2, "middle")
        body.append(draw_text("label", at, bottom - 2.5, point.label, anchor))
    return _frame(title, x, y, body)


def curves(lines: Sequence[Line], x: Axis, y: Axis, title: str) -> str:
    """Return curves, each named at its last point."""
    body = []
    for line in lines:
        pixels = [_pixel(px, py, x, y) for px, py in line.points]
        body.append(_polyline(line, x, y))
        if line.kind == "eval":
            body += [f'<circle class="dot" cx="{a:.1f}" cy="{b:.1f}" r="2"/>' for a, b in pixels]
    return _frame(title, x, y, body)


def whiskers(rows: Sequence[tuple[str, Point]], axis: Axis, title: str) -> str:
    """Return one line per row: a name, its value as a dot, its interval as a bar."""
    step, left, right = 30, 92, 76
    height = step * len(rows) + 30
    span = WIDTH - left - right
    body = []
    for tick in axis.ticks(5):
        px = left + span * axis.share(tick)
        body.append(draw_segment("grid", px, 6, px, height - 22))
        body.append(draw_text("tick", px, height - 8, axis.form(tick), "middle"))
    for index, (note, point) in enumerate(rows):
        py = 20 + step * index
        body.append(draw_text("name", left - 12, py + 4, point.label, "end"))
        if point.low is not None and point.high is not None:
            ends = (left + span * axis.share(end) for end in (point.low, point.high))
            first, last = ends
            body.append(draw_segment(f"bar {point.kind}", first, py, last, py))
        body.append(draw_mark(point, left + span * axis.share(point.x), py))
        body.append(draw_text("label", WIDTH - right + 12, py + 4, note))
    return draw_picture(height, title, body)


def bars(edges: Sequence[float], counts: Sequence[int], x: Axis, y: Axis, title: str) -> str:
    """Return a histogram: a bar from each edge to the next."""
    body = []
    for (left, right), count in zip(pairwise(edges), counts, strict=True):
        (first, top), (last, bottom) = _pixel(left, count, x, y), _pixel(right, y.low, x, y)
        body.append(
            f'<rect class="gguf" x="{first + 0.5:.1f}" y="{top:.1f}" '
            f'width="{max(last - first - 1, 0.5):.1f}" height="{bottom - top:.1f}"/>'
        )
    return _frame(title, x, y, body)


def _frame(title: str, x: Axis, y: Axis, body: Sequence[str]) -> str:
    """Grid, ticks and titles around a plot's body."""
    parts = []
    for tick in y.ticks(6):
        _, py = _pixel(x.low, tick, x, y)
        parts.append(draw_segment("grid", LEFT, py, WIDTH - RIGHT, py))
        parts.append(draw_text("tick", LEFT - 8, py + 3.5, y.form(tick), "end"))
    parts.append(draw_segment("axis", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM))
    for tick in x.ticks(6):
        px, _ = _pixel(tick, y.low, x, y)
        parts.append(draw_segment("axis", px, HEIGHT - BOTTOM, px, HEIGHT - BOTTOM + 4))
        parts.append(draw_text("tick", px, HEIGHT - BOTTOM + 16, x.form(tick), "middle"))
    parts.append(draw_text("title", 0, 12, y.title))
    parts.append(draw_text("title", WIDTH - RIGHT, HEIGHT - 6, x.title, "end"))
    return draw_picture(HEIGHT, title, [*parts, *body])


def draw_picture(height: int, title: str, body: Sequence[str], width: int = WIDTH) -> str:
    """Return a picture of elements, with title and description for who cannot see it."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>A table of this page has the numbers.</desc>"
        f"{''.join(body)}</svg>"
    )


def _polyline(line: Line, x: Axis, y: Axis) -> str:
    pixels = [_pixel(px, py, x, y) for px, py in line.points]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in pixels)
    return f'<polyline class="curve {line.kind}" points="{path}"/>'


def _pixel(px: float, py: float, x: Axis, y: Axis) -> tuple[float, float]:
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return LEFT + across * x.share(px), HEIGHT - BOTTOM - up * y.share(py)


def draw_mark(point: Point, px: float, py: float) -> str:
    """Return a circle for GGUF, a square for ONNX, a diamond for others: not by colour alone."""
    if point.kind == "gguf":
        shape = f'<circle class="mark gguf" cx="{px:.1f}" cy="{py:.1f}" r="4.2"/>'
    else:
        turn = f' transform="rotate(45 {px:.1f} {py:.1f})"' if point.kind == "hf" else ""
        shape = (
            f'<rect class="mark {escape(point.kind)}" x="{px - 3.7:.1f}" y="{py - 3.7:.1f}" '
            f'width="7.4" height="7.4"{turn}/>'
        )
    return shape


def _bar(point: Point, x: Axis, y: Axis) -> str:
    left, top, right, bottom = _bar_box(point, x, y)
    middle = (left + right) / 2
    return draw_segment(f"bar {escape(point.kind)}", middle, top, middle, bottom)


def _place_labels(points: Sequence[Point], x: Axis, y: Axis) -> list[Box | None]:
    """Find a box for each label: near its point, on no point or label, and on few bars.

    ``None`` where there is no free place. Points in a crowd choose first.
    """
    pixels = [_pixel(point.x, point.y, x, y) for point in points]
    marks = [(px - 5, py - 5, px + 5, py + 5) for px, py in pixels]
    bars = [_bar_box(p, x, y) for p in points if p.low is not None and p.high is not None]
    taken, placed = list(marks), dict[int, Box]()
    for index in sorted(range(len(points)), key=lambda at: _loneliness(at, pixels)):
        boxes = [
            (cost + 9 * _count_hits(box, bars), box)
            for cost, box in _candidates(*pixels[index], LETTER * len(points[index].label))
            if _inside(box) and not _count_hits(box, taken)
        ]
        if boxes:
            placed[index] = min(boxes)[1]
            taken.append(placed[index])
    return [placed.get(index) for index in range(len(points))]


def _loneliness(index: int, pixels: Sequence[tuple[float, float]]) -> float:
    """Distance to the third nearest point."""
    px, py = pixels[index]
    return sorted(abs(px - a) + abs(py - b) for a, b in pixels)[:4][-1]


def _bar_box(point: Point, x: Axis, y: Axis) -> Box:
    assert point.low is not None and point.high is not None
    px, top = _pixel(point.x, min(point.high, y.high), x, y)
    _, bottom = _pixel(point.x, max(point.low, y.low), x, y)
    return (px - 1.5, top, px + 1.5, bottom)


def _candidates(px: float, py: float, width: float) -> list[tuple[float, Box]]:
    """Places around a point with their cost, which grows with the distance."""
    boxes = []
    for gap in (8, 14, 22, 32, 44, 58, 74):
        sides = (
            (px + gap, py - LINE / 2),
            (px - gap - width, py - LINE / 2),
            (px - width / 2, py - gap - LINE),
            (px - width / 2, py + gap),
            (px + 0.6 * gap, py - gap - LINE / 2),
            (px + 0.6 * gap, py + gap - LINE / 2),
            (px - 0.6 * gap - width, py - gap - LINE / 2),
            (px - 0.6 * gap - width, py + gap - LINE / 2),
        )
        boxes += [(gap + 0.1 * n, (a, b, a + width, b + LINE)) for n, (a, b) in enumerate(sides)]
    return boxes


def _inside(box: Box) -> bool:
    edges = (LEFT + 2, TOP - 8, WIDTH - 2, HEIGHT - BOTTOM - 2)
    return box[0] >= edges[0] and box[1] >= edges[1] and box[2] <= edges[2] and box[3] <= edges[3]


def _count_hits(box: Box, taken: Sequence[Box]) -> int:
    """How many of ``taken`` overlap ``box``."""
    return sum(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in taken
    )


def draw_segment(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a line of a style class."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def draw_text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    """Return an escaped text of a style class."""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
