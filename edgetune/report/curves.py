"""Training curves: each drawing with its numbers in a table behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from edgetune.report.format import NONE, significant
from edgetune.report.plots import plot_curve
from edgetune.report.tables import Cell

SHOWN = 24  # rows of a table; report.json has all
#: What is shown of a logged row, and by which number of the page it is defined.
_COLUMNS = (
    ("loss", "Training loss", "curve_loss"),
    ("eval_loss", "Validation loss", "curve_eval_loss"),
    ("reward", "Mean reward", "curve_reward"),
)


@dataclass(frozen=True)
class CurveFigure:
    """A figure of one training.

    Attributes:
        title: its role.
        svg: the drawing.
        caption: of the table.
        heads: of the columns beside the step: title and metric.
        rows: step and cells.
    """

    title: str
    svg: Markup
    caption: str
    heads: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def curve_figures(report: Mapping[str, Any]) -> list[CurveFigure]:
    """Return a figure for each training whose curves can be drawn."""
    found = []
    for group in report.get("curves", []):
        svg = plot_curve(group)
        if svg:
            validated = count_validation_rows(report, str(group["stage"]))
            found.append(_make_figure(group, svg, validated))
    return found


def count_validation_rows(report: Mapping[str, Any], stage: str) -> int:
    """Return on how many rows a stage's training was validated; 0 where that is not recorded.

    Steps of a tuning may have rows of their own.
    """
    section = report.get("recipe", {}).get(stage)
    data = report.get("data") or {}
    rows = data.get("tokens", {}).get("validation", {}).get("rows")
    rows = data.get("rows", {}).get("validation") if rows is None else rows
    if not isinstance(section, Mapping) or not rows:
        return 0
    most = section.get("eval_rows", "all")
    return int(rows) if most == "all" else min(int(rows), int(most))


def _make_figure(group: Mapping[str, Any], svg: str, validated: int) -> CurveFigure:
    rows = _read_rows(group["points"], validated)
    logged = {metric for cells in rows.values() for metric in cells}
    logged -= {"curve_loss", "curve_eval_loss"} if "curve_reward" in logged else set()
    heads = [(title, metric) for _, title, metric in _COLUMNS if metric in logged]
    with_validation = [step for step, cells in rows.items() if "curve_eval_loss" in cells]
    shown = _choose([*rows], with_validation)
    title = str(group["role"])
    caption = f"Curves of the {title}: {len(shown):,} of {len(rows):,} logged steps"
    cells = [
        (f"Step {step:,}", [rows[step].get(metric, Cell(NONE)) for _, metric in heads])
        for step in shown
    ]
    return CurveFigure(title, Markup(svg), caption, heads, cells)


def _read_rows(points: Sequence[Mapping[str, Any]], validated: int) -> dict[int, dict[str, Cell]]:
    """Return the cells of each logged step, in order, by metric."""
    rows: dict[int, dict[str, Cell]] = {}
    before = 0
    for point in points:
        step = int(point["step"])
        for key, _, metric in _COLUMNS:
            if point.get(key) is not None:
                n = validated if key == "eval_loss" else step - before
                cell = Cell(significant(float(point[key])), "", metric, n)
                rows.setdefault(step, {})[metric] = cell
        if "loss" in point:
            before = step
    return dict(sorted(rows.items()))


def _choose(steps: Sequence[int], validated: Sequence[int]) -> list[int]:
    """Return the steps of the table: evenly, those of a validation first, both ends always."""
    wanted = validated if len(validated) > 1 else steps
    if len(wanted) > SHOWN:
        last = len(wanted) - 1
        wanted = [wanted[place * last // (SHOWN - 1)] for place in range(SHOWN)]
    return sorted({steps[0], *wanted, steps[-1]}) if steps else []
