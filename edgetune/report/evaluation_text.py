"""What was graded, as lines and cells of text: for the terminal and report.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetune.report.evaluation_view import describe_difference
from edgetune.report.figures import write_difference, write_interval
from edgetune.report.format import NONE
from edgetune.report.page_definitions import define_numbers
from edgetune.report.summary import answer_questions, headline_metric

DIFFERENCE_TITLES = ("Model", "Against", "Difference", "95 % interval", "p, corrected", "Rows",
                     "Rows needed", "")  # fmt: skip
QUESTIONS = ("Did tuning help?", "Did shipping keep it?")


def answer_lines(report: Mapping[str, Any]) -> list[str]:
    """Return whether tuning helped and shipping kept it, a sentence each, where it was graded."""
    if not report.get("evaluation"):
        return []
    found = answer_questions(report, define_numbers(report))
    return [
        f"{one.question} {one.short}. {''.join(_text(part) for part in one.sentence)}"
        for one in found
        if one.question in QUESTIONS
    ]


def task_line(report: Mapping[str, Any]) -> str:
    """Return what the task is, and why; nothing where nothing was graded."""
    evaluation = report.get("evaluation")
    if not evaluation:
        return ""
    task = evaluation["task"]
    how = "guessed" if task["guessed"] else "chosen"
    return f"Task: {task['name']} ({how}: {task['why']}), {evaluation['rows']:,} rows."


def headline_title(report: Mapping[str, Any]) -> str:
    """Return the name of the metric that models are compared by."""
    metric = headline_metric(report)
    title = report.get("definitions", {}).get(metric, {}).get("title")
    return str(title or metric.replace("_", " ").capitalize())


def difference_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the differences of the headline metric, cells as :data:`DIFFERENCE_TITLES`."""
    metric, definitions = headline_metric(report), report.get("definitions", {})
    every = (report.get("evaluation") or {}).get("differences", ())
    found = [one for one in every if one["metric"] == metric]
    rows = []
    for one in found:
        needed = one["rows_needed"]
        rows.append(
            [
                str(one["candidate"]),
                str(one["reference"]),
                write_difference(one["difference"], metric, definitions),
                write_interval(one["ci95"], metric, definitions, "+"),
                f"{one['p_adjusted']:.3g}",
                f"{one['n']:,}",
                NONE if needed is None else f"{needed:,}",
                describe_difference(one, len(found)),
            ]
        )
    return rows


def _text(part: Any) -> str:
    return part if isinstance(part, str) else str(part.text)
