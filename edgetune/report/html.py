"""The report as one HTML file: nothing is loaded from outside, no script runs."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from importlib import resources
from typing import Any

import yaml

from edgetune.report import sections
from edgetune.report.format import (
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

SECTIONS: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
    ("Failed gates", "Limits that must hold for a pass, and do not.", sections.failed_gates),
    (
        "Models",
        "Every model and file, measured in the runtime that will run it, each in a process of its "
        "own, on the same prompts. Intervals are 95 %; latencies are medians.",
        sections.models,
    ),
    (
        "KV cache",
        "The same files with keys and values cached in fewer bits. The divergence in an f16 row is "
        "computed with 32 bits, so that it tells of the file alone.",
        sections.caches,
    ),
    (
        "Quality against cost",
        "Up and to the left is better for the score, down and to the left for divergence.",
        sections.quality,
    ),
    (
        "Quality per byte",
        "Types chosen tensor by tensor for a budget, against the usual mixes (diamonds); the "
        "curve is the best that was measured at each size.",
        sections.search,
    ),
    (
        "Distillation",
        "The student, and the same student trained as long without the teacher.",
        sections.distillation,
    ),
    (
        "From training to file",
        "What each step changed: every step is compared with the one before it.",
        sections.chain,
    ),
    ("Gates", "Limits that must hold for the verdict to be a pass.", sections.gates),
    ("Training", "", sections.training),
    (
        "Lineage",
        "What was made of what; keys are hashes of all that decides a result.",
        sections.lineage,
    ),
    ("Left out and fallen back", "", sections.refusals),
    ("Warnings", "", sections.warnings),
    ("Machine", "", sections.machine),
    ("Definitions", "What each figure is, by its name in report.json.", sections.definitions),
)


def render_html(report: dict[str, Any]) -> str:
    """Return the page. Sections that have nothing to say are left out."""
    style = resources.files("edgetune.report").joinpath("style.css").read_text(encoding="utf-8")
    parts = []
    for title, note, render in SECTIONS:
        body = render(report)
        if body:
            said = f"<p>{escape(note)}</p>" if note else "<p></p>"
            parts.append(f"<section><h2>{escape(title)}</h2>{said}{body}</section>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report['name'])} · edgetune report</title><style>{style}</style></head>"
        f"<body><main>{_header(report)}{''.join(parts)}{_recipe(report)}"
        f"<footer>Made by edgetune. All figures are in <code>report.json</code>.</footer>"
        "</main></body></html>\n"
    )


def _header(report: dict[str, Any]) -> str:
    verdict = "pass" if report["verdict"] == "pass" else "fail"
    headline = report["headline"]
    note = headline.get("note", "")
    created = str(report.get("created", "")).replace("T", " ").removesuffix("+00:00")
    return (
        f'<header><p class="eyebrow"><span>edgetune report</span><b>{escape(report["name"])}</b>'
        f"<span>{escape(created)} UTC</span>"
        f'<span class="badge {verdict}">{verdict}</span></p>'
        f"<h1>{escape(headline['text'].removesuffix(note).strip())}</h1>"
        f'<p class="lede">{escape(_lede(report))}</p>{_key_figures(report)}</header>'
    )


def _lede(report: dict[str, Any]) -> str:
    """The headline's figures with what they stand on."""
    best, against = _chosen(report), reference(report["models"])
    note = report["headline"].get("note", "")
    said = [note] if note else []
    found = measured(best, "exact_match") if best else None
    if best and found and against:
        bounds = f" ({interval(found)})" if interval(found) else ""
        said.append(
            f"{best['name']} answers {percent(found['value'])}{bounds} of {found['n']:,} test rows "
            f"exactly, the {against['role']} {percent(value_of(against, 'exact_match'))}."
        )
    gates = report["gates"]
    failed = [gate for gate in gates if not gate["ok"]]
    if failed:
        said.append(f"{len(failed)} of {len(gates)} gates failed: {failed[0]['name']}.")
    elif gates:
        said.append(f"{len(gates)} of {len(gates)} gates hold.")
    return " ".join(said)


def _key_figures(report: dict[str, Any]) -> str:
    best, against = _chosen(report), reference(report["models"])
    if not best or not against:
        return ""
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
    items = "".join(
        f"<div><dt>{escape(title)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for title, value, note in found
        if value != "–"
    )
    return f'<dl class="key">{items}</dl>'


def _chosen(report: dict[str, Any]) -> dict[str, Any] | None:
    name = report["headline"].get("model")
    return next((model for model in report["models"] if model["name"] == name), None)


def _recipe(report: dict[str, Any]) -> str:
    text = yaml.safe_dump(report["recipe"], sort_keys=False, allow_unicode=True, width=96)
    return (
        "<section><h2>Recipe</h2><p></p><details><summary>every value, as it was resolved</summary>"
        f"<pre>{escape(text)}</pre></details></section>"
    )
