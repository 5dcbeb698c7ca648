"""Which plots a report has: quality against size and latency, training curves, distillation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgetune.report.axes import fit_axis
from edgetune.report.figures import Definitions, is_ratio, write_value
from edgetune.report.format import (
    measured,
    milliseconds,
    percent,
    round_form,
    short_name,
    significant,
    size,
    tick,
    value_of,
)
from edgetune.report.kept import name_metric
from edgetune.report.svg import Line, Point, curves, scatter, whiskers

Number = Callable[[dict[str, Any]], float | None]


def quality_plots(models: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return (caption, SVG) of each pair of quality and cost that at least two models have.

    Divergence is the one to the merged model where it was measured: it shows what the files differ
    in, where that to the teacher is mostly the student's.
    """
    merged = "kl_answer_tokens_to_merged"
    own = merged if sum(value_of(m, merged) is not None for m in models) > 1 else "kl_answer_tokens"
    target = "the merged model" if own == merged else "the teacher"
    costs: tuple[tuple[str, str, Number, Callable[[float], str]], ...] = (
        ("size", "file size, log scale", lambda m: m["bytes"], size),
        ("latency", "time per token, log scale", _time_per_token, milliseconds),
    )
    plots = []
    for quality, name in (("exact_match", "Score"), (own, "Divergence")):
        log = quality == own
        title = f"KL divergence to {target}, log scale" if log else "exact match on the task"
        for cost, x_title, cost_of, form in costs:
            points = _without_far_base(_points(models, quality, cost_of, log), models, log)
            if len(points) < 2:
                continue
            x = fit_axis(x_title, [p.x for p in points], round_form(form), log=True)
            ends = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
            y = (
                fit_axis(title, ends, tick, log=True)
                if log
                else fit_axis(title, ends, lambda v: percent(v, 0), bounds=(0.0, 1.0))
            )
            plots.append((f"{name} against {cost}", scatter(points, x, y, f"{title}, {x_title}")))
    return plots


def search_plot(found: dict[str, Any]) -> str:
    """Return bytes against KL: llama.cpp's own mixes, the files picked, and the frontier found."""
    points = [
        Point(row["name"], kind, row["bytes"], row["kl_measured"])
        for kind, rows in (("hf", found["stock"]), ("gguf", found["results"]))
        for row in rows
        if row["kl_measured"] > 0
    ]
    shown = [point.x for point in points]
    trail = [
        (float(row["bytes"]), float(row["kl_measured"]))
        for row in found["frontier"]
        if row["kl_measured"] > 0 and min(shown) <= row["bytes"] <= max(shown)
    ]
    title = "KL divergence to the merged model, log scale"
    x = fit_axis("file size, log scale", shown, round_form(size), log=True)
    ends = [point.y for point in points] + [kl for _, kl in trail]
    y = fit_axis(title, ends, tick, log=True)
    line = Line("frontier", "eval", trail) if len(trail) > 1 else None
    return scatter(points, x, y, f"{title}, against file size", line)


def plot_curve(group: Mapping[str, Any]) -> str:
    """Return the curves of a training: loss of the steps and on validation rows; empty of none.

    A training on rewarded answers has its mean reward in their place.
    """
    role = str(group["role"])
    if rewards := _series(group["points"], "reward"):
        return _plot_reward(role, rewards)
    lines = [
        Line(key, kind, _series(group["points"], key))
        for key, kind in (("loss", "train"), ("eval_loss", "eval"))
    ]
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ""
    steps = [px for line in lines for px, _ in line.points]
    losses = [py for line in lines for _, py in line.points if py > 0]
    positive = [Line(line.label, line.kind, [p for p in line.points if p[1] > 0]) for line in lines]
    x = fit_axis("optimizer step", [0, max(steps)], significant, bounds=(0, max(steps)))
    y = fit_axis("loss, log scale", losses, tick, log=True)
    return curves(positive, x, y, f"loss of the {role}")


def _plot_reward(role: str, rewards: list[tuple[float, float]]) -> str:
    if len(rewards) < 2:
        return ""
    last = rewards[-1][0]
    x = fit_axis("optimizer step", [0, last], significant, bounds=(0, last))
    y = fit_axis("mean reward", [reward for _, reward in rewards], significant)
    return curves([Line("reward", "train", rewards)], x, y, f"mean reward of the {role}")


def distillation_plot(found: dict[str, Any], definitions: Definitions) -> str:
    """Return teacher, student and the student without a teacher, with their intervals."""
    metric = str(found.get("metric", "exact_match"))
    ratio, title = is_ratio(metric, definitions), name_metric(metric, definitions)
    rows = []
    for role in ("teacher", "student", "baseline"):
        one = found.get(role)
        if one:
            low, high = one.get("ci95") or (None, None)
            point = Point(role, "hf", one["value"], 0.0, low, high)
            rows.append((write_value(one["value"], metric, definitions), point))
    ends = [v for _, p in rows for v in (p.x, p.low, p.high) if v is not None]
    bounds = (0.0, 1.0) if ratio else (-math.inf, math.inf)
    form = (lambda v: percent(v, 0)) if ratio else significant
    axis = fit_axis(title, ends, form, bounds=bounds)
    return whiskers(rows, axis, f"{title} with and without distillation")


def _points(
    models: Sequence[dict[str, Any]], quality: str, cost_of: Number, log: bool
) -> list[Point]:
    points = []
    for model in models:
        found, cost = measured(model, quality), cost_of(model)
        value = value_of(model, quality)
        if found is None or value is None or not cost or (log and value <= 0):
            continue
        low, high = (None, None) if log else (found.get("ci95") or (None, None))
        points.append(Point(short_name(model), model["format"], cost, value, low, high))
    return points


def _without_far_base(
    points: list[Point], models: Sequence[dict[str, Any]], log: bool
) -> list[Point]:
    """Leave the untouched base out where it lies so far off that the others become one dot."""
    bases = {short_name(model) for model in models if model["role"] == "base"}
    others = [point.y for point in points if point.label not in bases]
    if len(others) < 2:
        return points
    if log:
        near = [point for point in points if point.y <= 4 * max(others)]
    else:
        near = [point for point in points if point.y >= min(others) - 0.2]
    return [point for point in points if point.label not in bases or point in near]


def _time_per_token(model: dict[str, Any]) -> float | None:
    return value_of(model, "tpot_ms_p50")


def _series(rows: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]
