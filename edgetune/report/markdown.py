"""The report as Markdown: what a pull request or a terminal can show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetune.report.format import percent, size, small
from edgetune.report.tables import CACHE_TITLES, cache_rows, describe, model_rows, speed_settings


def render_markdown(report: dict[str, Any]) -> str:
    """Return the page: the sections of the HTML one that need no drawing."""
    parts = [f"# {report['name']}: {report['verdict']}", report["headline"]["text"]]
    blocks = (
        ("Failed gates", _gates([gate for gate in report["gates"] if not gate["ok"]])),
        ("Models", _models(report)),
        ("KV cache", _caches(report)),
        ("Quality per byte", _search(report)),
        ("Distillation", _distillation(report)),
        ("From training to file", _chain(report)),
        ("Gates", _gates(report["gates"])),
        ("Left out and fallen back", _refusals(report)),
        ("Warnings", _list(f"{w['stage']}: {w['text']}" for w in report.get("warnings", []))),
        ("Lineage", _lineage(report)),
        ("Machine", _machine(report["machine"])),
        ("Definitions", _definitions(report)),
    )
    parts += [f"## {title}\n\n{body}" for title, body in blocks if body]
    return "\n\n".join(parts) + "\n"


def _gates(gates: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            str(gate["name"]),
            f"{gate['limit']:g}",
            "not measured" if gate["value"] is None else f"{gate['value']:.4g}",
            "holds" if gate["ok"] else "**fails**",
        )
        for gate in gates
    ]
    return _table(("Gate", "Limit", "Value", "Verdict"), rows)


def _models(report: dict[str, Any]) -> str:
    columns, found = model_rows(report["models"])
    rows = []
    for model, device, cells in found:
        texts = [f"{c.text} ({c.below})" if c.below else c.text for c in cells]
        rows.append((f"{model['name']} ({describe(model, device)})", *texts))
    table = _table(("Model", *(column.title for column in columns)), rows)
    return "\n\n".join(part for part in (table, speed_settings(report["models"])) if part)


def _caches(report: dict[str, Any]) -> str:
    rows = [
        (file, kv_cache, *(f"{c.text} ({c.below})" if c.below else c.text for c in cells))
        for file, kv_cache, cells in cache_rows(report["models"])
    ]
    return _table(CACHE_TITLES, rows)


def _search(report: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['name']}.{found['format']}", size(row["bytes"]), f"{row['bits_per_weight']:.2f}",
            small(row["kl_measured"]), small(row.get("kl_decided")),
        )
        for found in report.get("searches", [])
        for row in [*found["fits"], *found["stock"]]
    ]  # fmt: skip
    if not rows:
        return ""
    return _table(("Mix", "Bytes", "Bits per weight", "KL", "KL, codes decided"), rows)


def _distillation(report: dict[str, Any]) -> str:
    found = report.get("distillation")
    if not found:
        return ""
    scores = ", ".join(
        f"{role} {percent(found[role]['value'])}"
        for role in ("teacher", "student", "baseline")
        if found.get(role)
    )
    low, high = (100 * end for end in found["ci95"])
    return (
        f"**{found['verdict']}**: {100 * found['difference']:+.1f} points over the same student "
        f"trained without the teacher (95 % interval {low:+.1f} to {high:+.1f}); {scores}."
    )


def _chain(report: dict[str, Any]) -> str:
    merge = report.get("merge") or {}
    rows = [
        (
            f"base + adapter → merged over the {one['base']} base",
            small(one["kl_answer_tokens"]),
            small(one["kl_answer_tokens"]),
            percent(one["top1_answer_tokens"], 2),
            "answer tokens",
            "kept" if one["base"] == merge.get("chosen") else "not kept",
        )
        for one in merge.get("candidates", [])
    ]
    rows += [
        (
            f"{one.get('made_of', 'merged')} → {one['name']}",
            small(one.get("kl_added")),
            small(one["kl_all_tokens"]),
            percent(one.get("top1_all_tokens"), 2),
            "all tokens",
            "token ids equal" if one.get("token_ids_equal") else "**token ids differ**",
        )
        for one in report.get("chain", [])
        if "kl_all_tokens" in one
    ]
    return _table(("Link", "KL it adds", "KL in all", "Same top token", "Over", ""), rows)


def _refusals(report: dict[str, Any]) -> str:
    said = [f"{r['format']} {r['scheme']}: refused, {r['why']}" for r in report.get("refused", [])]
    said += [
        f"{f['file']}: `{f['tensor']}` is {f['got']} instead of {f['wanted']} ({f['why']})"
        for f in report.get("fallbacks", [])
    ]
    return _list(said)


def _lineage(report: dict[str, Any]) -> str:
    rows = [
        (
            str(one["stage"]),
            str(one["kind"]),
            f"`{str(one['key'])[:8]}`",
            ", ".join(name.removeprefix("source:") for name in one.get("parents", {})),
            f"`{one['path']}`",
        )
        for one in report["lineage"]
    ]
    return _table(("Stage", "Kind", "Key", "Made of", "Path"), rows)


def _machine(machine: dict[str, Any]) -> str:
    said = []
    for key, value in machine.items():
        if value in (None, [], {}, ""):
            continue
        if key.endswith("_bytes"):
            key, value = key.removesuffix("_bytes"), size(value)
        if isinstance(value, dict):
            value = ", ".join(f"{name} {item}" for name, item in value.items())
        said.append(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return _list(said)


def _definitions(report: dict[str, Any]) -> str:
    return _list(
        f"**{one['title']}** (`{name}`): {one['text']}"
        for name, one in report["definitions"].items()
    )


def _list(items: Any) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table, numbers flush right; empty without rows."""
    if not rows:
        return ""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
