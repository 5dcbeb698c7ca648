"""The sections of the HTML report: each returns its body, or nothing if there is nothing to say."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from edgetune.report.format import percent, size, small, tick
from edgetune.report.plots import curve_plots, distillation_plot, quality_plots, search_plot
from edgetune.report.tables import (
    CACHE_TITLES,
    cache_rows,
    describe,
    html_cell,
    html_table,
    model_rows,
    speed_settings,
)

_SHAPES = {
    "gguf": ("GGUF", '<circle class="gguf" cx="6" cy="6" r="4.5"/>'),
    "onnx": ("ONNX", '<rect class="onnx" x="2" y="2" width="8" height="8"/>'),
    "hf": (
        "Hugging Face",
        '<rect class="hf" x="2" y="2" width="8" height="8" transform="rotate(45 6 6)"/>',
    ),
}


def failed_gates(report: dict[str, Any]) -> str:
    """The limits that were broken: what a reader has to know before any figure."""
    return _gate_table([gate for gate in report["gates"] if not gate["ok"]])


def gates(report: dict[str, Any]) -> str:
    """Each limit with the value it was held against."""
    return _gate_table(report["gates"])


def _gate_table(gates: Sequence[dict[str, Any]]) -> str:
    rows = []
    for gate in gates:
        value = "not measured" if gate["value"] is None else small(gate["value"])
        mark = '<span class="ok">holds</span>' if gate["ok"] else '<span class="no">fails</span>'
        rows.append(("", [escape(str(gate["name"])), tick(gate["limit"]), value, mark]))
    return html_table(("Gate", "Limit", "Value", "Verdict"), rows) if rows else ""


def models(report: dict[str, Any]) -> str:
    """The table of all models and files."""
    if not report["models"]:
        return ""
    columns, found = model_rows(report["models"])
    rows = []
    for model, device, cells in found:
        chosen = "chosen" if model["name"] == report["headline"].get("model") else ""
        name = f"<b>{escape(model['name'])}</b><small>{escape(describe(model, device))}</small>"
        rows.append((chosen, [name, *(html_cell(cell) for cell in cells)]))
    settings = speed_settings(report["models"])
    said = f"<p>{escape(settings)}</p>" if settings else ""
    return html_table(("Model", *(column.title for column in columns)), rows) + said


def caches(report: dict[str, Any]) -> str:
    """Files that were measured with several KV caches."""
    rows = [
        ("", [f"<b>{escape(file)}</b>", escape(kv_cache), *(html_cell(cell) for cell in cells)])
        for file, kv_cache, cells in cache_rows(report["models"])
    ]
    return html_table(CACHE_TITLES, rows) if rows else ""


def quality(report: dict[str, Any]) -> str:
    """Score and divergence against size and latency."""
    plots = quality_plots(report["models"])
    if not plots:
        return ""
    figures = "".join(f"<figure><h3>{escape(title)}</h3>{svg}</figure>" for title, svg in plots)
    formats = dict.fromkeys(model["format"] for model in report["models"])
    items = "".join(
        f'<li><svg viewBox="0 0 12 12" aria-hidden="true">{_SHAPES[name][1]}</svg>'
        f"{_SHAPES[name][0]}</li>"
        for name in formats
        if name in _SHAPES
    )
    return f'<div class="plots">{figures}</div><ul class="legend">{items}</ul>'


def search(report: dict[str, Any]) -> str:
    """What was found for each budget, beside the formats' usual mixes; the picks are marked."""
    parts = []
    for found in report.get("searches", []):
        rows = [
            (kind, [f"<b>{escape(row['name'])}</b>", size(row["bytes"]),
                    f"{row['bits_per_weight']:.2f}", small(row["kl_estimated"]),
                    small(row["kl_measured"]), small(row.get("kl_decided"))])
            for kind, several in (("chosen", found["fits"]), ("", found["stock"]))
            for row in several
        ]  # fmt: skip
        titles = (
            "Mix",
            "Bytes",
            "Bits per weight",
            "KL, sum of parts",
            "KL, measured",
            "KL, codes decided",
        )
        said = (
            f"<p>Estimated harm ranks {found['pairs']} measured pairs of tensor and type with "
            f"Spearman’s ρ {found['rank_correlation']:.3f}; KL is on {found['positions']:,} "
            "calibration tokens, of files whose codes were decided after the search on validation "
            "rows.</p>"
        )
        parts.append(
            f"<h3>{_SHAPES[found['format']][0]}</h3>{html_table(titles, rows)}{said}"
            f'<figure class="narrow">{search_plot(found)}</figure>'
        )
    return "".join(parts)


def distillation(report: dict[str, Any]) -> str:
    """Whether the teacher helped, in red where it did not."""
    found = report.get("distillation")
    if not found:
        return ""
    low, high = (100 * end for end in found["ci95"])
    difference = (
        f"{100 * found['difference']:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
    )
    if found["verdict"] == "won":
        gap = found["gap_recovered"]
        share = f" It closes {percent(gap, 0)} of the gap to the teacher." if gap else ""
        note = f'<p class="note">Distillation won: {difference}.{share}</p>'
    else:
        said = {
            "lost": "Distillation lost",
            "no significant difference": "Distillation did not win",
        }
        reason = "" if found["verdict"] == "lost" else ", no significant difference"
        note = f'<p class="note bad"><b>{said[found["verdict"]]}:</b> {difference}{reason}.</p>'
    return f'{note}<figure class="narrow">{distillation_plot(found)}</figure>'


def chain(report: dict[str, Any]) -> str:
    """Merge candidates and files, each against what it was made of."""
    rows = []
    merge = report.get("merge") or {}
    for one in merge.get("candidates", []):
        kept = one["base"] == merge.get("chosen")
        name = f"<b>merged over the {escape(one['base'])} base</b>"
        name += "<small>against base + adapter, as trained</small>"
        verdict = '<span class="ok">kept</span>' if kept else "not kept"
        rows.append(
            (
                "",
                [
                    name, small(one["kl_answer_tokens"]), small(one["kl_answer_tokens"]),
                    percent(one["top1_answer_tokens"], 2), "answer tokens", verdict,
                ],
            )
        )  # fmt: skip
    for file in report.get("chain", []):
        if "kl_all_tokens" not in file:
            continue
        made_of = escape(file.get("made_of", "merged"))
        name = f"<b>{made_of} → {escape(file['name'])}</b>"
        equal = file.get("token_ids_equal")
        texts = f" on {file['texts']} texts" if file.get("texts") else ""
        ids = (
            f'<span class="ok">equal</span>{texts}'
            if equal
            else f'<span class="no">differ</span>{texts}'
        )
        rows.append(
            (
                "",
                [
                    name, small(file.get("kl_added")), small(file["kl_all_tokens"]),
                    percent(file.get("top1_all_tokens"), 2), "all tokens", ids,
                ],
            )
        )  # fmt: skip
    titles = (
        "Link", "KL it adds", "KL in all", "Same top token", "Over", "Token ids, or choice",
    )  # fmt: skip
    return html_table(titles, rows) if rows else ""


def training(report: dict[str, Any]) -> str:
    """Loss curves."""
    plots = curve_plots(report.get("curves", []))
    if not plots:
        return ""
    figures = "".join(f"<figure><h3>{escape(role)}</h3>{svg}</figure>" for role, svg in plots)
    line = (
        '<svg viewBox="0 0 12 12" aria-hidden="true">'
        '<line class="{}" x1="0" y1="6" x2="12" y2="6" stroke-width="2"/></svg>'
    )
    legend = (
        f'<ul class="legend"><li>{line.format("train")}training rows</li>'
        f"<li>{line.format('eval')}validation rows</li></ul>"
    )
    return f'<div class="plots">{figures}</div>{legend}'


def lineage(report: dict[str, Any]) -> str:
    """The stages in order, with their parents."""
    items = []
    for one in report["lineage"]:
        parents = [name.removeprefix("source:") for name in one.get("parents", {})]
        made_of = f"<small>of {escape(', '.join(parents))}</small>" if parents else ""
        volume = f" · {size(one['bytes'])}" if one.get("bytes") else ""
        items.append(
            f"<li><b>{escape(one['stage'])}</b><small>{escape(one['kind'])}{volume}</small>"
            f'<small class="mono">{escape(str(one["key"])[:8])}</small>{made_of}</li>'
        )
    return f'<ol class="lineage">{"".join(items)}</ol>' if items else ""


def refusals(report: dict[str, Any]) -> str:
    """Files that a format cannot hold, and tensors that a scheme could not."""
    items = [
        f"<li><b>{escape(one['format'])} {escape(one['scheme'])}</b> was refused: "
        f"{escape(one['why'])}</li>"
        for one in report.get("refused", [])
    ]
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for one in report.get("fallbacks", []):
        key = (one["file"], str(one["wanted"]), str(one["got"]), str(one["why"]))
        groups.setdefault(key, []).append(str(one["tensor"]))
    for (file, wanted, got, why), tensors in groups.items():
        more = f" and {len(tensors) - 3} more" if tensors[3:] else ""
        items.append(
            f"<li><b>{escape(file)}</b>: {escape(got)} instead of {escape(wanted)} for "
            f"<code>{escape(', '.join(tensors[:3]))}</code>{more} "
            f'<span class="soft">({escape(why)})</span></li>'
        )
    return f'<ul class="plain">{"".join(items)}</ul>' if items else ""


def warnings(report: dict[str, Any]) -> str:
    """What the stages warned of."""
    items = "".join(
        f'<li><span class="soft">{escape(one["stage"])}</span> {escape(one["text"])}</li>'
        for one in report.get("warnings", [])
    )
    return f'<ul class="plain">{items}</ul>' if items else ""


def definitions(report: dict[str, Any]) -> str:
    """What each figure is."""
    items = "".join(
        f"<dt>{escape(one['title'])}<br><small class='mono'>{escape(name)}</small></dt>"
        f"<dd>{escape(one['text'])}</dd>"
        for name, one in report["definitions"].items()
    )
    return f'<dl class="facts">{items}</dl>' if items else ""


def machine(report: dict[str, Any]) -> str:
    """What everything was measured on."""
    shown = []
    for key, value in report["machine"].items():
        if value in (None, [], {}, ""):
            continue
        title = key.replace("_bytes", "").replace("_", " ")
        if key.endswith("_bytes"):
            text = size(value)
        elif isinstance(value, dict):
            text = " · ".join(f"{name} {item}" for name, item in value.items())
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        shown.append(f"<dt>{escape(title)}</dt><dd>{escape(text)}</dd>")
    return f'<dl class="facts">{"".join(shown)}</dl>' if shown else ""
