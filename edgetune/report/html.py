"""The report as one HTML file: nothing is loaded from outside, no script runs."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml
from markupsafe import Markup

from edgetune.report.format import (
    NONE,
    depth_of,
    interval,
    measured,
    milliseconds,
    percent,
    rate,
    reference,
    size,
    small,
    times,
    value_of,
)
from edgetune.report.jinja import html_environment, render
from edgetune.report.plots import curve_plots, distillation_plot, quality_plots, search_plot
from edgetune.report.tables import machine_rows, speed_settings


def render_html(report: dict[str, Any]) -> str:
    """Return the page. Sections without content are left out."""
    style = resources.files("edgetune.report").joinpath("style.css").read_text(encoding="utf-8")
    note = report["headline"].get("note", "")
    page = render(
        html_environment(),
        "report.html.j2",
        report=report,
        style=Markup(style),
        verdict="pass" if report["verdict"] == "pass" else "fail",
        created=str(report.get("created", "")).replace("T", " ").removesuffix("+00:00"),
        headline=report["headline"]["text"].removesuffix(note).strip(),
        lede=_lede(report),
        key_figures=_key_figures(report),
        speed_settings=speed_settings(report["models"]),
        quality_plots=_drawn(quality_plots(report["models"])),
        curve_plots=_drawn(curve_plots(report.get("curves", []))),
        search_plots=[(one, Markup(search_plot(one))) for one in report.get("searches", [])],
        distillation=_distillation(report.get("distillation")),
        fallbacks=_group_fallbacks(report.get("fallbacks", [])),
        machine=machine_rows(report["machine"]),
        recipe=yaml.safe_dump(report["recipe"], sort_keys=False, allow_unicode=True, width=96),
    )
    return page.lstrip()


def _drawn(plots: list[tuple[str, str]]) -> list[tuple[str, Markup]]:
    """Mark SVG, whose texts are escaped where it is drawn, as finished."""
    return [(title, Markup(svg)) for title, svg in plots]


def _distillation(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the words and the plot of the comparison with the baseline."""
    if not found:
        return None
    low, high = (100 * end for end in found["ci95"])
    lost = found["verdict"] == "lost"
    return {
        "won": found["verdict"] == "won",
        "title": "Distillation lost" if lost else "Distillation did not win",
        "reason": "" if lost else f", {found['verdict']}",
        "difference": f"{100 * found['difference']:+.1f} points "
        f"(95 % interval {low:+.1f} to {high:+.1f})",
        "gap": percent(found["gap_recovered"], 0) if found["gap_recovered"] else "",
        "plot": Markup(distillation_plot(found)),
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


def _lede(report: dict[str, Any]) -> str:
    """Return the sentence below the headline: its scores, and the gates."""
    best, against = _chosen(report), reference(report["models"])
    note = report["headline"].get("note", "")
    sentences = [note] if note else []
    found = measured(best, "exact_match") if best else None
    if best and found and against:
        bounds = f" ({interval(found)})" if interval(found) else ""
        sentences.append(
            f"{best['name']} answers {percent(found['value'])}{bounds} of {found['n']:,} test rows "
            f"exactly, the {against['role']} {percent(value_of(against, 'exact_match'))}."
        )
    gates = report["gates"]
    failed = [gate for gate in gates if not gate["ok"]]
    if failed:
        sentences.append(f"{len(failed)} of {len(gates)} gates failed: {failed[0]['name']}.")
    elif gates:
        sentences.append(f"{len(gates)} of {len(gates)} gates hold.")
    return " ".join(sentences)


def _key_figures(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return title, value and note of the figures below the headline."""
    best, against = _chosen(report), reference(report["models"])
    if not best or not against:
        return []
    headline = report["headline"]
    kept = (
        ("Score kept", percent(headline["kept"]), f"of the {against['role']}’s")
        if headline.get("score", "exact_match") == "exact_match"
        else ("Same top token", percent(headline["kept"]), f"as the {against['role']}’s")
    )
    depth = depth_of(report["models"])
    found = [
        kept,
        ("Size", size(best["bytes"]), f"{times(headline['ratio'])} smaller"),
        (
            "KL to the teacher",
            small(value_of(best, "kl_answer_tokens")),
            f"nats; perplexity {small(value_of(best, 'perplexity'))}",
        ),
        ("First token", milliseconds(value_of(best, "ttft_ms_p50")), "median"),
        (
            "Decode",
            rate(value_of(best, "decode_tokens_per_s")),
            f"tokens/s at depth {depth}" if depth is not None else "tokens/s",
        ),
        ("Peak memory", size(value_of(best, "peak_rss_bytes")), "of its process"),
    ]
    return [figure for figure in found if figure[1] != NONE]


def _chosen(report: dict[str, Any]) -> dict[str, Any] | None:
    name = report["headline"].get("model")
    return next((model for model in report["models"] if model["name"] == name), None)
