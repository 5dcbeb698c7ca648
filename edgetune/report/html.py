"""The report as one HTML file: nothing is loaded from outside, no script but ours runs."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml
from markupsafe import Markup

from edgetune.report.class_tables import tables_json
from edgetune.report.curves import curve_figures
from edgetune.report.distillation import tell_difference
from edgetune.report.evaluation_view import find_pair, view_evaluation
from edgetune.report.figures import Definitions
from edgetune.report.format import percent
from edgetune.report.jinja import html_environment, render
from edgetune.report.page_definitions import count_measured, define_numbers, finish_page
from edgetune.report.plots import distillation_plot, quality_plots, search_plot
from edgetune.report.scripts import embed_json, embed_text, read_script, write_policy
from edgetune.report.summary import answer_questions, key_figures
from edgetune.report.tables import machine_rows, speed_settings


def render_html(report: dict[str, Any], flips: str | None = None) -> str:
    """Return the page. Sections without content are left out.

    Args:
        report: as :func:`edgetune.report.build.build_report` returns it.
        flips: JSON of the rows that models answer differently, as ``flips.json`` has it; it is not
            shown where a source of the rows is confidential.
    """
    style = resources.files("edgetune.report").joinpath("style.css").read_text(encoding="utf-8")
    definitions = define_numbers(report)
    evaluation = view_evaluation(report, definitions)
    note = report["headline"].get("note", "")
    texts = flips if flips and evaluation and not evaluation["confidential"] else None
    scripts = [read_script(name) for name in ("page.js", *(["flips.js"] if texts else []))]
    page = render(
        html_environment(),
        "report.html.j2",
        report=report,
        style=Markup(style),
        policy=write_policy(scripts),
        scripts=[Markup(script) for script in scripts],
        verdict="pass" if report["verdict"] == "pass" else "fail",
        created=str(report.get("created", "")).replace("T", " ").removesuffix("+00:00"),
        note=note,
        headline=report["headline"]["text"].removesuffix(note).strip(),
        answers=answer_questions(report, definitions),
        key_figures=key_figures(report),
        found=evaluation,
        tables_data=embed_json(tables_json(evaluation["tables"])) if evaluation else "",
        flips_data=embed_text(texts) if texts else "",
        flips_pair=find_pair(report),
        speed_settings=speed_settings(report["models"]),
        quality_plots=_drawn(quality_plots(report["models"])),
        curve_figures=curve_figures(report),
        search_plots=[(one, Markup(search_plot(one))) for one in report.get("searches", [])],
        distillation=_distillation(report.get("distillation"), definitions),
        fallbacks=_group_fallbacks(report.get("fallbacks", [])),
        machine=machine_rows(report["machine"]),
        recipe=yaml.safe_dump(report["recipe"], sort_keys=False, allow_unicode=True, width=96),
    )
    return finish_page(page.lstrip(), definitions, count_measured(report))


def _drawn(plots: list[tuple[str, str]]) -> list[tuple[str, Markup]]:
    """Mark SVG, whose texts are escaped where it is drawn, as finished."""
    return [(title, Markup(svg)) for title, svg in plots]


def _distillation(found: dict[str, Any] | None, definitions: Definitions) -> dict[str, Any] | None:
    """Return the words and the plot of the comparison with the baseline."""
    if not found:
        return None
    lost = found["verdict"] == "lost"
    return {
        "won": found["verdict"] == "won",
        "title": "Distillation lost" if lost else "Distillation did not win",
        "reason": "" if lost else f", {found['verdict']}",
        "difference": tell_difference(found, definitions),
        "gap": percent(found["gap_recovered"], 0) if found["gap_recovered"] else "",
        "plot": Markup(distillation_plot(found, definitions)),
    }


def _group_fallbacks(
    fallbacks: list[dict[str, Any]],
) -> list[tuple[tuple[str, ...], list[str]]]:
    """Return (file, wanted type, type used, reason) with the tensors they apply to."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in fallbacks:
        key = tuple(str(one[name]) for name in ("file", "wanted", "got", "why"))
        groups.setdefault(key, []).append(str(one["tensor"]))
    return list(groups.items())
