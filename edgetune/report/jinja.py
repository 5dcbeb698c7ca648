"""The Jinja environments of the report's pages: whatever a template prints is escaped.

HTML is escaped by Jinja itself. Markdown pages use the same mechanism with their own rule: a value
that is not marked as finished text goes through ``escape`` before it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from edgetune.report import data, distillation, fairness, prompting, steps, tables
from edgetune.report import format as numbers

#: Functions that write numbers; their results need no escape.
_NUMBERS = ("percent", "significant", "size", "small", "tick")


def html_environment() -> Environment:
    """Return the environment of HTML pages."""
    return _environment()


def markdown_environment(
    escape: Callable[[object], str], escape_cell: Callable[[object], str], align: str
) -> Environment:
    """Return the environment of Markdown pages.

    Args:
        escape: makes any value text that Markdown shows as it is.
        escape_cell: the same inside a table.
        align: the rule below the columns after the first, ``---:`` for flush right.
    """

    def finish(value: object) -> Markup:
        return value if isinstance(value, Markup) else Markup(escape(value))

    def row(*cells: object) -> Markup:
        texts = [one if isinstance(one, Markup) else Markup(escape_cell(one)) for one in cells]
        return Markup(f"| {' | '.join(texts)} |")

    def header(*titles: str) -> Markup:
        rule = " | ".join(["---", *[align] * (len(titles) - 1)])
        return Markup(f"| {' | '.join(titles)} |\n| {rule} |")

    environment = _environment(finalize=finish)
    environment.globals |= {"row": row, "header": header, "cell_texts": _cell_texts}
    return environment


def _environment(finalize: Callable[[object], Markup] | None = None) -> Environment:
    environment = Environment(
        loader=PackageLoader("edgetune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
        keep_trailing_newline=True,
    )
    environment.globals |= {name: _finished(getattr(numbers, name)) for name in _NUMBERS}
    environment.globals |= {
        "NONE": numbers.NONE,
        "zip": zip,
        "LEAK": data.LEAK,
        "list_cleaning": data.list_cleaning,
        "list_left_out": data.list_left_out,
        "list_origins": data.list_origins,
        "CACHE_TITLES": tables.CACHE_TITLES,
        "cache_rows": tables.cache_rows,
        "not_measured_lines": tables.not_measured_lines,
        "describe": tables.describe,
        "machine_rows": tables.machine_rows,
        "model_rows": tables.model_rows,
        "resource_rows": tables.resource_rows,
        "parent_names": tables.parent_names,
        "speed_settings": tables.speed_settings,
        "prompting_titles": prompting.prompting_titles,
        "prompting_rows": prompting.prompting_rows,
        "BALANCE_TITLES": fairness.BALANCE_TITLES,
        "FAIRNESS_TITLES": fairness.FAIRNESS_TITLES,
        "CLASSIFIED_TITLES": fairness.CLASSIFIED_TITLES,
        "GROUP_CLASSIFIED_TITLES": fairness.GROUP_CLASSIFIED_TITLES,
        "balance_rows": fairness.balance_rows,
        "classified_group_rows": fairness.classified_group_rows,
        "classified_rows": fairness.classified_rows,
        "fairness_rows": fairness.fairness_rows,
        "tell_difference": distillation.tell_difference,
        "tell_distilled": distillation.tell_scores,
        "STEP_TITLES": steps.STEP_TITLES,
        "figure_lines": steps.figure_lines,
        "step_rows": steps.step_rows,
    }
    return environment


def _finished(form: Callable[..., str]) -> Callable[..., Markup]:
    return lambda *values: Markup(form(*values))


def _cell_texts(cells: Sequence[tables.Cell | str]) -> list[Markup | str]:
    """Return the text of each cell of numbers, with the small text below it in brackets.

    Texts stay what they are, to be escaped.
    """
    return [
        one
        if isinstance(one, str)
        else Markup(f"{one.text} ({one.below})" if one.below else one.text)
        for one in cells
    ]


def render(environment: Environment, name: str, **values: Any) -> str:
    """Return the page that the template ``name`` gives."""
    return environment.get_template(name).render(**values)
