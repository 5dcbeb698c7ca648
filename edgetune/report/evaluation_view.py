"""What the page shows of the graded answers: scores, differences, slices and flips as cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgetune.evaluate.predictions import PROMPTED
from edgetune.measure.definitions import DEFINITIONS
from edgetune.report.class_tables import PageTable, make_tables
from edgetune.report.evaluation_plots import plot_differences, plot_scores
from edgetune.report.figures import (
    Definitions,
    difference_cell,
    higher_is_better,
    score_cell,
    write_interval,
    write_value,
)
from edgetune.report.format import NONE, with_role
from edgetune.report.pairs import is_certain
from edgetune.report.summary import find_chosen, headline_metric
from edgetune.report.tables import Cell

SHOWN_METRICS = 6  # beside the name; the others are below, closed
SHOWN_PAIRS = 60  # of flips, in the table; the browser below it has them all
Row = tuple[str, str, list[Cell | str]]  # name, small text below it, cells
CONFIDENTIAL = (
    "No text is shown: a source of these rows is marked confidential "
    "(data.train[].confidential), and a page travels further than its rows may."
)


def view_evaluation(report: Mapping[str, Any], definitions: Definitions) -> dict[str, Any] | None:
    """Return what the template shows of ``report["evaluation"]``; None where nothing was graded."""
    evaluation = report.get("evaluation")
    if not evaluation or not evaluation["models"]:
        return None
    metric = headline_metric(report)
    title = definitions.get(metric, {}).get("title", metric)
    shown = _shown_models(report)
    tables = _model_tables(evaluation, definitions)
    scores = _score_table(report, evaluation, definitions)
    tabled = [name for name, _ in tables]
    wanted = [model["name"] for model in reversed(shown) if model["name"] in tabled]
    compared = Counter(str(one["metric"]) for one in evaluation["differences"])
    first, more = _sort_differences(report, evaluation["differences"], metric)
    return {
        "task": evaluation["task"],
        "rows": evaluation["rows"],
        "metric": metric,
        "title": title,
        "scores": _first_columns(scores, 0, SHOWN_METRICS),
        "more_scores": _first_columns(scores, SHOWN_METRICS),
        "plots": [
            (name, Markup(svg))
            for name, svg in (
                (title, plot_scores(report["models"], metric, definitions)),
                (f"{title}: difference to the tuned model",
                 plot_differences(_of_files(report, first), definitions, report["models"])),
            )
            if svg
        ],
        "differences": [_difference_row(one, definitions, compared) for one in first],
        "more_differences": [_difference_row(one, definitions, compared) for one in more],
        "tables": tables,
        "shown_table": next(iter([*wanted, *tabled]), ""),
        "slices": _slice_table(evaluation, shown, definitions),
        "flips": _flip_rows(report, evaluation),
        "confidential": CONFIDENTIAL if evaluation["confidential"] else "",
    }  # fmt: skip


def _shown_models(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return base, tuned model and recommended file, as far as there are any."""
    models = report["models"]
    tuned = with_role(models, "teacher") or with_role(models, "merged")
    found = [with_role(models, "base"), tuned, find_chosen(report)]
    kept = {model["name"]: model for model in found if model is not None}
    return list(kept.values()) or list(models[:1])


def _score_table(
    report: Mapping[str, Any], evaluation: Mapping[str, Any], definitions: Definitions
) -> dict[str, Any]:
    """Return the metrics of the task as columns, and a row for each model that was graded."""
    known = {model["name"]: model for model in report["models"]}
    graded = []
    for one in evaluation["models"]:
        found = known.get(one["name"], {}).get("measurements") or one.get("scores", [])
        graded.append((one, {score["name"]: score for score in reversed(found)}))
    own = [headline_metric(report)]
    for _, scores in graded:
        own += [name for name in reversed(scores) if name not in DEFINITIONS]
    names = [name for name in dict.fromkeys(own) if name in definitions]
    rows = [
        (str(one["name"]), str(one["role"]),
         [score_cell(scores.get(name), definitions) for name in names])
        for one, scores in graded
    ]  # fmt: skip
    heads = [(definitions[name]["title"], name) for name in names]
    return {"heads": heads, "rows": rows}


def _first_columns(table: Mapping[str, Any], first: int, end: int | None = None) -> dict[str, Any]:
    """Return a part of a table's columns, with all its rows."""
    rows = [(name, below, cells[first:end]) for name, below, cells in table["rows"]]
    return {"heads": table["heads"][first:end], "rows": rows}


def _of_files(
    report: Mapping[str, Any], differences: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the differences of files to the tuned model."""
    models = report["models"]
    tuned = with_role(models, "teacher") or with_role(models, "merged")
    files = {model["name"] for model in models if model["role"] == "file"}
    return [
        one
        for one in differences
        if tuned and one["reference"] == tuned["name"] and one["candidate"] in files
    ]


def _sort_differences(
    report: Mapping[str, Any], differences: Sequence[Mapping[str, Any]], metric: str
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return what answers the page's questions, and the rest.

    Those are the headline metric of the tuned model against the base, and of all that was made of
    the tuned model against it.
    """
    tuned = with_role(report["models"], "teacher") or with_role(report["models"], "merged")
    name = tuned["name"] if tuned else None
    first = [
        one
        for one in differences
        if one["metric"] == metric and name in (None, one["reference"], one["candidate"])
    ]
    return first, [one for one in differences if one not in first]


def _difference_row(
    one: Mapping[str, Any], definitions: Definitions, compared: Mapping[str, int]
) -> Row:
    adjusted, needed, n = one.get("p_adjusted"), one.get("rows_needed"), int(one["n"])
    p_value = NONE if adjusted is None else "< 0.001" if adjusted < 0.001 else f"{adjusted:.3f}"
    title = definitions.get(one["metric"], {}).get("title", one["metric"])
    return (
        str(one["candidate"]),
        f"against {one['reference']} · {title}",
        [
            difference_cell(one, definitions),
            describe_difference(one, compared[str(one["metric"])]),
            Cell(p_value, "", "p_adjusted", n),
            Cell(f"{n:,}", "", "difference", n),
            Cell(NONE if needed is None else f"{needed:,}", "", "rows_needed", n),
        ],
    )


def describe_difference(one: Mapping[str, Any], compared: int) -> str:
    """Return a difference in words: which is better, and whether that is certain."""
    if one["difference"] == 0:
        return "No difference"
    better = (one["difference"] > 0) == higher_is_better(str(one["metric"]))
    word = "better" if better else "worse"
    among = f" among {compared} comparisons" if compared > 1 else ""
    ends = one.get("ci95")
    if is_certain(one):
        return f"{word.capitalize()}: certain{among}"
    if ends and ends[0] * ends[1] > 0:
        return f"Perhaps {word}: not certain{among}"
    return "No difference found"


def _model_tables(
    evaluation: Mapping[str, Any], definitions: Definitions
) -> list[tuple[str, list[PageTable]]]:
    """Return each model's own tables, of the models that have some."""
    found = [(str(one["name"]), make_tables(one, definitions)) for one in evaluation["models"]]
    return [(name, tables) for name, tables in found if tables]


def _slice_table(
    evaluation: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], definitions: Definitions
) -> dict[str, Any]:
    """Return a row for each slice, with the value of base, tuned model and recommended file."""
    parts = {one["name"]: one["slices"] for one in evaluation["models"]}
    names = [model["name"] for model in shown if parts.get(model["name"])]
    if not names:
        return {"heads": [], "rows": [], "title": ""}
    metric = parts[names[-1]][0]["metric"]  # the headline; others are those that gates ask for
    of_metric = {name: [s for s in parts[name] if s["metric"] == metric] for name in names}
    by_model = [{(s["column"], s["value"]): s for s in of_metric[name]} for name in names]
    rows: list[tuple[str, str, list[Cell | str]]] = []
    for one in of_metric[names[-1]]:
        key = one["column"], one["value"]
        cells: list[Cell | str] = [Cell(f"{one['n']:,}", "", metric, one["n"])]
        for slices in by_model:
            found = slices.get(key)
            cells.append(Cell(NONE) if found is None else Cell(
                write_value(found["value_of_metric"], metric, definitions),
                write_interval(found["ci95"], metric, definitions), metric, found["n"],
            ))  # fmt: skip
        rows.append((f"{one['column']}: {one['value']}", str(one.get("title") or ""), cells))
    heads = [("Rows", metric), *((name, metric) for name in names)]
    title = definitions.get(metric, {}).get("title", metric)
    return {"heads": heads, "rows": rows, "title": title}


def _flip_rows(report: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[Row]:
    """Return the flips from base and its prompts to tuned model, and from there to every file."""
    models = report["models"]
    roles = {model["name"]: model["role"] for model in evaluation["models"]}
    tuned = with_role(models, "teacher") or with_role(models, "merged")
    if tuned is None:
        return []
    rows: list[Row] = []
    for one in evaluation["flips"]:
        untouched = roles.get(one["reference"]) in ("base", PROMPTED)
        to_tuned = one["candidate"] == tuned["name"] and untouched
        if not to_tuned and one["reference"] != tuned["name"]:
            continue
        n = sum(one[name] for name in ("lost", "gained", "both_right", "both_wrong"))
        names = ("lost", "gained", "both_right", "both_wrong")
        cells: list[Cell | str] = [Cell(f"{one[name]:,}", "", name, n) for name in names]
        rows.append((f"{one['reference']} → {one['candidate']}", "", cells))
    return rows[:SHOWN_PAIRS]


def find_pair(report: Mapping[str, Any]) -> tuple[str, str]:
    """Return the two models whose flips are shown first: the tuned one and the recommended file."""
    names = [str(model["name"]) for model in _shown_models(report)][-2:]
    return (names[0], names[-1]) if names else ("", "")
