"""The report as Markdown, for pull requests and terminals."""

from __future__ import annotations

import re
from typing import Any

from edgetune.report.evaluation_text import (
    DIFFERENCE_TITLES,
    answer_lines,
    difference_rows,
    task_line,
)
from edgetune.report.jinja import markdown_environment, render


def render_markdown(report: dict[str, Any]) -> str:
    """Return the page: the sections of the HTML one that need no plots."""
    environment = markdown_environment(escape_line, escape_cell, align="---:")
    environment.globals |= {
        "DIFFERENCE_TITLES": DIFFERENCE_TITLES,
        "answer_lines": answer_lines,
        "difference_rows": difference_rows,
        "task_line": task_line,
    }
    return join_blocks(render(environment, "report.md.j2", report=report))


def join_blocks(page: str) -> str:
    """Return the page with one empty line between blocks and one newline at its end."""
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


def escape_line(text: object) -> str:
    """Return text in one line."""
    return str(text).replace("\n", " ")


def escape_cell(text: object) -> str:
    """Return text that cannot end a table's cell or row."""
    return escape_line(text).replace("|", "\\|")
