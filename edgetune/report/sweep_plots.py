"""The plots of a sweep: Pareto front, importance of keys, parallel coordinates, the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from edgetune.report.axes import Axis, fit_axis
from edgetune.report.format import milliseconds, percent, round_form, significant, size, small
from edgetune.report.svg import (
    Line,
    Point,
    draw_picture,
    draw_segment,
    draw_text,
    scatter,
    whiskers,
)

#: How measures are written.
FORMS: dict[str, Callable[[float], str]] = {
    "score": percent,
    "loss": small,
    "bytes": size,
    "tpot": milliseconds,
    "ram": size,
}
TITLES = {
    "score": "exact match",
    "loss": "loss, nats",
    "bytes": "file size",
    "tpot": "time per token",
    "ram": "peak memory",
}
_GAP, _TOP, _DEEP, _SIDE = 128, 34, 210, 52  # pixels of parallel coordinates


def pareto_plot(report: Mapping[str, Any]) -> str:
    """Return the trials by two objectives, those that no other beats as circles on a line.

    With one objective the second is the file's size; empty where there is nothing to compare.
    """
    names = list(report["objectives"])
    first, second = (names[0], names[1]) if len(names) > 1 else (names[0], "bytes")
    done = [t for t in report["trials"] if t["state"] == "complete"]
    found = [(t, t["facts"]["measures"]) for t in done if second in t["facts"]["measures"]]
    if len({(m[first], m[second]) for _, m in found}) < 2 or first == second:
        return ""
    front = set(report["pareto"]) if len(names) > 1 else {report["best"]}
    points = [
        Point(str(t["number"]), "gguf" if t["number"] in front else "hf", m[second], m[first])
        for t, m in found
    ]
    bounds = (0.0, 1.0) if first == "score" else (-math.inf, math.inf)
    x = fit_axis(TITLES[second], [p.x for p in points], round_form(FORMS[second]))
    y = fit_axis(TITLES[first], [p.y for p in points], _short(first), bounds=bounds)
    ends = sorted((p.x, p.y) for p in points if p.kind == "gguf")
    trail = Line("front", "eval", ends) if len(ends) > 1 else None
    return scatter(points, x, y, f"{TITLES[first]} against {TITLES[second]}", trail)


def importance_plot(importance: Mapping[str, float]) -> str:
    """Return a bar per key, the longest first."""
    rows = sorted(importance.items(), key=lambda one: -one[1])
    if not rows:
        return ""
    most = max(max(value for _, value in rows), 1e-9)
    body = []
    for index, (key, value) in enumerate(rows):
        top = 34 * index
        body.append(draw_text("name", 0, top + 14, key))
        body.append(
            f'<rect class="gguf" x="0" y="{top + 19}" width="{max(360 * value / most, 1):.1f}" '
            'height="7" rx="2"/>'
        )
        body.append(draw_text("label", 376, top + 26, percent(value, 0)))
    return draw_picture(34 * len(rows) + 4, "importance of the searched keys", body)


def comparison_plot(found: Mapping[str, Any]) -> str:
    """Return the best trial and the recipe's own values with their intervals."""
    form = FORMS[found["measure"]]
    rows = []
    for label, key in (("best", "of_best"), ("recipe", "of_default")):
        if key in found:
            one = found[key]
            value, ends = one["value"], one["ci95"] or (None, None)
            if found["measure"] == "loss":  # measured as perplexity
                value, ends = (math.log(value), [e and math.log(e) for e in ends])
            rows.append((form(value), Point(label, "gguf", value, 0.0, *ends)))
    values = [v for _, p in rows for v in (p.x, p.low, p.high) if v is not None]
    bounds = (0.0, 1.0) if found["measure"] == "score" else (-math.inf, math.inf)
    axis = fit_axis(TITLES[found["measure"]], values, _short(found["measure"]), bounds=bounds)
    return whiskers(rows, axis, "the best trial and the recipe’s own values")


@dataclass(frozen=True)
class _Upright:
    """One axis of parallel coordinates: its title, places of values, and ticks."""

    title: str
    share: Callable[[Any], float]
    ticks: Sequence[tuple[float, str]]


def parallel_plot(report: Mapping[str, Any]) -> str:
    """Return a line per finished trial through its values and objectives; the best is bold.

    The paler a line, the worse its first objective. Empty for fewer than two trials.
    """
    done = [t for t in report["trials"] if t["state"] == "complete"]
    if len(done) < 2:
        return ""
    names = list(report["objectives"])
    uprights = [_key_axis(key, one, done) for key, one in report["space"].items()]
    uprights += [_objective_axis(name, done) for name in names]
    width = _GAP * (len(uprights) - 1) + 2 * _SIDE
    body = []
    for index, upright in enumerate(uprights):
        at = _SIDE + _GAP * index
        body.append(draw_segment("axis", at, _TOP, at, _TOP + _DEEP))
        body.append(draw_text("title", at, 14, upright.title, "middle"))
        for share, text in upright.ticks:
            py = _TOP + _DEEP * (1 - share)
            body.append(draw_segment("axis", at - 3, py, at + 3, py))
            body.append(draw_text("label", at + 6, py + 3.5, text))
    sign = -1 if names[0] == "score" else 1
    ranked = sorted(done, key=lambda t: -sign * t["objectives"][names[0]])  # the best on top
    lines = []
    for rank, trial in enumerate(ranked):
        values = [trial["values"].get(key) for key in report["space"]]
        values += [trial["objectives"][name] for name in names]
        places = [(n, u.share(v)) for n, (u, v) in enumerate(zip(uprights, values, strict=True))]
        path = " ".join(f"{_SIDE + _GAP * n},{_TOP + _DEEP * (1 - s):.1f}" for n, s in places)
        is_best = trial["number"] == report["best"]
        opacity = 1.0 if is_best else 0.15 + 0.85 * rank / len(ranked)
        lines.append(
            f'<polyline class="curve {"eval" if is_best else "train"}" points="{path}" '
            f'style="opacity:{opacity:.2f};stroke-width:{2.6 if is_best else 1.2}"/>'
        )
    return draw_picture(_TOP + _DEEP + 10, "trials in parallel coordinates", lines + body, width)


def _key_axis(key: str, one: Mapping[str, Any], done: Sequence[Mapping[str, Any]]) -> _Upright:
    title = key.rpartition(".")[2]
    if "values" in one:
        labels = [str(value) for value in one["values"]]
        labels += sorted({str(t["values"].get(key)) for t in done} - {*labels})
        at = {label: n / max(len(labels) - 1, 1) for n, label in enumerate(labels)}
        return _Upright(title, lambda v: at[str(v)], [(at[one], one[:14]) for one in labels])
    found = [float(t["values"][key]) for t in done if t["values"].get(key) is not None]
    low, high = min([one["low"], *found]), max([one["high"], *found])
    axis = Axis(title, low, high, one["kind"] == "log", significant)
    return _Upright(
        title,
        lambda value: axis.share(float(value)),
        [(axis.share(t), small(t)) for t in axis.ticks(5)],
    )


def _objective_axis(name: str, done: Sequence[Mapping[str, Any]]) -> _Upright:
    values = [float(t["objectives"][name]) for t in done]
    axis = fit_axis(TITLES[name], values, _short(name))
    return _Upright(
        TITLES[name], axis.share, [(axis.share(t), escape(axis.form(t))) for t in axis.ticks(5)]
    )


def _short(name: str) -> Callable[[float], str]:
    return (lambda v: percent(v, 0)) if name == "score" else round_form(FORMS[name])
