"""The page of a sweep: one HTML file, nothing loaded from outside, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from markupsafe import Markup

from edgetune.log import counted
from edgetune.report.format import NONE, percent
from edgetune.report.jinja import html_environment, render
from edgetune.report.sweep_plots import (
    FORMS,
    TITLES,
    comparison_plot,
    importance_plot,
    parallel_plot,
    pareto_plot,
)


def render_sweep(report: Mapping[str, Any]) -> str:
    """Return the page of what :func:`edgetune.sweep.report.gather_report` found so far."""
    style = resources.files("edgetune.report").joinpath("style.css").read_text(encoding="utf-8")
    found = report["comparison"]
    page = render(
        html_environment(),
        "sweep.html.j2",
        report=report,
        style=Markup(style),
        created=str(report["created"]).replace("T", " ").removesuffix("+00:00"),
        headline=_headline(report),
        lede=_lede(report),
        counts=_counts(report["trials"]),
        comparison=Markup(comparison_plot(found)) if found else "",
        changed=_changed(report),
        columns=[TITLES[name] for name in _shown(report)],
        rows=_trial_rows(report),
        pareto=Markup(pareto_plot(report)),
        importance=Markup(importance_plot(report["importance"])),
        parallel=Markup(parallel_plot(report)),
    )
    return page.lstrip()


def _headline(report: Mapping[str, Any]) -> str:
    found, best = report["comparison"], report["best"]
    if best is None:
        return "No trial is done yet that keeps the constraints"
    if found is None:
        return f"Trial {best} is the best so far"
    said = {
        "better": f"Trial {best} is better than the recipe’s own values",
        "worse": f"Trial {best} is worse than the recipe’s own values on {found['split']} rows",
        "within the noise": f"Trial {best} is not better than the recipe’s own values beyond the "
        "noise",
        "on other rows": f"Trial {best} is the best, on rows that are not the recipe’s",
        "the recipe itself": "No trial is better than the recipe’s own values",
    }
    return said.get(str(found.get("verdict")), f"Trial {best} is the best")


def _lede(report: Mapping[str, Any]) -> str:
    """Return the sentence below the headline: how the two compare, on which rows."""
    found = report["comparison"]
    if not found:
        return "The comparison with the recipe’s own values follows when all trials are done."
    rows = found["of_best"]["n"]
    said = [f"Both were measured on {rows:,} {found['split']} rows, once, after the search."]
    if found["split"] != "test":
        said = [
            f"There are no test rows: both were measured on the {rows:,} validation rows that the "
            "best was chosen by, which flatters it."
        ]
    elif found["looks"] > 1:
        said.append(f"It was the {found['looks']}. look at them: the search went on after a first.")
    if found.get("verdict") == "on other rows":
        said.append(
            "The searched keys chose other rows for the two, or other tokens of them, so that "
            "their values do not compare."
        )
    if found.get("ci95"):
        low, high = found["ci95"]
        scale, unit = (100, " points") if found["measure"] == "score" else (1, " nats")
        said.append(
            f"Paired over rows the difference is {scale * found['difference']:+.2f}{unit} "
            f"(95 % interval {scale * low:+.2f} to {scale * high:+.2f}; "
            f"signed-rank test p = {found['p_value']:.2g})."
        )
    return " ".join(said)


def _counts(trials: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return title, value and note of the figures below the headline."""
    states = [str(one["state"]) for one in trials]
    seconds = sum(float(one["facts"].get("seconds", 0)) for one in trials)
    found = [
        ("Trials", f"{len(trials)}", "of the study"),
        ("Measured", f"{states.count('complete')}", "to the end"),
        ("Stopped", f"{states.count('pruned')}", "behind the others"),
        ("Failed", f"{states.count('failed')}", "with a reason"),
        ("Time", f"{seconds / 60:.1f} min", "of all trials"),
    ]
    return [one for one in found if one[1] != "0"]


def _shown(report: Mapping[str, Any]) -> list[str]:
    """Return the measures of the table: the objectives, then what else was measured."""
    measured = [one["facts"].get("measures", {}) for one in report["trials"]]
    others = [name for name in TITLES if any(name in one for one in measured)]
    return list(dict.fromkeys([*report["objectives"], *others]))


def _trial_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the trials: the best first, then by the first objective, the unmeasured last."""
    first = next(iter(report["objectives"]))
    sign = -1 if first == "score" else 1

    def rank(one: Mapping[str, Any]) -> tuple[bool, bool, float, int]:
        done = one["state"] == "complete"
        cost = sign * one["objectives"][first] if done else 0.0
        return (not done, not one["is_feasible"], cost, one["number"])

    rows = []
    for one in sorted(report["trials"], key=rank):
        measures = one["facts"].get("measures", {})
        cells = [FORMS[n](measures[n]) if n in measures else NONE for n in _shown(report)]
        state = str(one["state"]) if one["is_feasible"] else "breaks a constraint"
        rows.append(
            {
                "number": one["number"],
                "is_best": one["number"] == report["best"],
                "is_default": one["number"] == 0,
                "state": state,
                "settings": ", ".join(f"{k} {_text(v)}" for k, v in one["values"].items()),
                "why": str(one["facts"].get("why", "")),
                "cells": cells,
            }
        )
    return rows


def _changed(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return key, the recipe's value, the best's, and its importance."""
    trials = {one["number"]: one for one in report["trials"]}
    best, default = trials.get(report["best"]), trials.get(0)
    if not best or not default:
        return []
    importance = report["importance"]
    return [
        (key, _text(default["values"].get(key)), _text(best["values"].get(key)),
         percent(importance.get(key), 0))
        for key in report["space"]
    ]  # fmt: skip


def summarise(report: Mapping[str, Any]) -> str:
    """Return the sweep's result in a sentence or two, for the terminal."""
    number = counted(len(report["trials"]), "trial")
    return f"{number}: {_headline(report)}. {_lede(report)}"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
