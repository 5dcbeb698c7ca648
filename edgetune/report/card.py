"""The model card: what ships, what it was made of, and how good it is, as Hugging Face shows it.

The head is YAML, the rest Markdown. Names come from paths, data and other people's files, so every
one of them is escaped: none can end the head, open a tag, or draw a link.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from edgetune.models.licence import NOT_STATED
from edgetune.report.format import percent, significant, small
from edgetune.report.tables import describe, model_rows, speed_settings

_SIGNS = re.compile(r"([\\`*_\[\]|~$@])")
_HUB_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # an identifier, as the hub lists them


def render_card(report: dict[str, Any]) -> str:
    """Return the page; scores are on it once the bench has run."""
    broken = [gate for gate in report["gates"] if not gate["ok"]]
    blocks = (
        ("Failed gates", _list(f"{gate['name']}: {gate['value']}" for gate in broken)),
        ("Files", _files(report)),
        ("Scores", _scores(report)),
        ("Use", _use(report)),
        ("How it was made", _made(report)),
        ("Lineage", _lineage(report)),
        ("Licences", _licences(report)),
    )
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in blocks if text)
    title = f"# {plain(report['name'])}\n\n{plain(report['headline']['text'])}"
    return f"---\n{_head(report)}---\n\n{title}\n\n{body}\n"


def plain(text: object) -> str:
    """Return text that Markdown shows as it is, in one line."""
    line = _one_line(text)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _SIGNS.sub(r"\\\1", line)
    line = re.sub(r"(?i)\b(https?|ftp|www)(?=[:.])", r"\1&#8203;", line)  # no link of its own
    return re.sub(r"^([-=+#]|\d+(?=[.)]))", r"&#8203;\1", line)  # no list, rule or heading


def code(text: object) -> str:
    """Return text as code, in one line; also inside a table."""
    line = _one_line(text).replace("|", "¦")  # inside code a table knows no escape for it
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    ticks = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def _one_line(text: object) -> str:
    return " ".join("".join(s if s.isprintable() else " " for s in str(text)).split())


def _head(report: dict[str, Any]) -> str:
    base = report["sources"][0]
    formats = dict.fromkeys(str(file["format"]) for file in report["files"])
    head: dict[str, Any] = {"pipeline_tag": "text-generation"}
    licence = base["licence"].lower()
    if base["licence"] != NOT_STATED:
        known = _HUB_LICENCE.fullmatch(licence)
        head |= {"license": licence} if known else {"license": "other"}
        head |= {} if known else {"license_name": _one_line(base["licence"])}
    if base["hub"]:
        head["base_model"] = _one_line(base["name"])
    recipe = report["recipe"]
    made = [word for word in ("tune", "distill") if word in recipe]
    method = [recipe["tune"]["method"]] if "tune" in recipe else []
    head["tags"] = ["edgetune", *formats, *made, *(_one_line(word) for word in method)]
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000)


def _files(report: dict[str, Any]) -> str:
    rows = [
        (
            code(file["path"] or file["name"]),
            f"{file['bytes']:,}",
            "–" if file["bits_per_weight"] is None else significant(file["bits_per_weight"]),
            small(file.get("kl_all_tokens")),
            {True: "equal", False: "**differ**"}.get(file.get("token_ids_equal"), "–"),
            code(file["sha256"]) if file["sha256"] else "–",
        )
        for file in report["files"]
    ]
    titles = ("File", "Bytes", "Bits per weight", "KL to the merged model", "Token ids", "SHA-256")
    said = (
        "Each file was run in its own runtime and compared with the merged 16-bit model: the mean "
        "KL divergence in nats over all tokens of rows, and the ids of texts and prompts. "
        "Bits per weight count the tensors' data alone. A folder's hash is over "
        "the names and hashes of its files."
    )
    parts = [said, _table(titles, rows)]
    for adapter in report["adapters"]:
        over = {
            "gguf": "for llama.cpp over a GGUF file of the base",
            "onnx": "for ONNX Runtime over the graph of the base beside it",
        }[adapter["format"]]
        parts.append(
            f"{code(adapter['path'])} ({adapter['bytes']:,} bytes, SHA-256 "
            f"{code(adapter['sha256'])}) is the adapter alone, {over}. Over the base in float32 "
            f"its KL to the merged model is {small(adapter['kl_all_tokens_to_merged'])}, and to "
            f"base + adapter as torch computes it {small(adapter['kl_all_tokens'])}."
        )
    return "\n\n".join(parts)


def _scores(report: dict[str, Any]) -> str:
    if not report["models"]:
        return "Not measured: the run has no bench."
    columns, found = model_rows(report["models"])
    rows = []
    for model, device, cells in found:
        texts = [f"{cell.text} ({cell.below})" if cell.below else cell.text for cell in cells]
        name = f"{model['name']} ({describe(model, device)})"
        rows.append((plain(name), *texts))
    asked = next(
        (m["n"] for one in report["models"] for m in one["measurements"]
         if m["name"] == "exact_match"), None,
    )  # fmt: skip
    counted = f" over {asked:,} test rows" if asked else ""
    said = (
        f"Greedy answers{counted}, intervals are 95 %; perplexity, KL and top-1 are over the "
        f"answer tokens. Speeds and memory on "
        f"{plain(report['machine'].get('processor', 'this machine'))}."
    )
    said = " ".join(part for part in (said, speed_settings(report["models"])) if part)
    parts = [said, _table(("Model", *(column.title for column in columns)), rows)]
    if judged := report.get("distillation"):
        low, high = (100 * end for end in judged["ci95"])
        parts.append(
            f"Distillation against the same student trained without the teacher: "
            f"{judged['verdict']}, {100 * judged['difference']:+.1f} points "
            f"({low:+.1f} to {high:+.1f})."
        )
    return "\n\n".join(parts)


def _use(report: dict[str, Any]) -> str:
    """A line a runtime, for the file that the headline names, else the smallest of a format."""
    chosen = report["headline"].get("model")
    items = []
    for kind, say in (("gguf", _use_gguf), ("onnx", _use_onnx)):
        files = [file for file in report["files"] if file["format"] == kind and file["path"]]
        if files:
            best = next((f for f in files if f["name"] == chosen), None)
            items += say(best or min(files, key=lambda file: file["bytes"]))
    items += [
        f"the adapter: {code('llama-cli -m BASE.gguf --lora ' + adapter['path'])}"
        for adapter in report["adapters"]
        if adapter["format"] == "gguf"
    ]
    if not items:
        return ""
    said = (
        "Paths start in the folder of the export, whose README.md says how each client runs the "
        "files."
    )
    return "\n".join([said, "", *(f"- {item}" for item in items)])


def _use_gguf(file: dict[str, Any]) -> list[str]:
    said = [f"llama.cpp: {code('llama-cli -m ' + file['path'] + ' -st --temp 0 -p PROMPT')}"]
    if file.get("modelfile"):
        said.append(f"Ollama: {code('ollama create NAME -f ' + file['modelfile'])}")
    return said


def _use_onnx(file: dict[str, Any]) -> list[str]:
    return [f"onnxruntime-genai: the folder {code(file['path'])}"]


def _made(report: dict[str, Any]) -> str:
    recipe, base = report["recipe"], report["sources"][0]
    steps = []
    if "tune" in recipe:
        tune = recipe["tune"]
        how = (
            "all weights" if tune["method"] == "full" else f"{tune['method']}, rank {tune['rank']}"
        )
        ran = report["training"].get("tune", {}).get("steps")
        rows = next((s["name"] for s in report["sources"] if s["what"] == "train rows"), "")
        count = f", {ran:,} steps" if ran else ""
        steps.append(f"tuned ({plain(how)}{count}) on {code(rows)}")
    if "distill" in recipe:
        steps.append(f"distilled into a student (method {plain(recipe['distill']['method'])})")
    merge = report.get("merge") or {}
    kept = next((c for c in merge.get("candidates", []) if c["base"] == merge.get("chosen")), None)
    if kept:
        steps.append(
            f"merged over the {plain(kept['base'])} base (KL to what was trained "
            f"{small(kept['kl_answer_tokens'])}, same top token "
            f"{percent(kept['top1_answer_tokens'], 2)})"
        )
    return f"{code(base['name'])}: {', then '.join(steps)}." if steps else code(base["name"])


def _lineage(report: dict[str, Any]) -> str:
    rows = [
        (plain(one["what"]), code(one["name"]), code(one["sha256"]) if one["sha256"] else "–")
        for one in report["sources"]
    ]
    for stage in report["lineage"]:
        rows += [
            (plain(f"{stage['stage']}: {stage['kind']}"), code(path), code(digest))
            for path, digest in stage["weights"].items()
        ]
    return _table(("What", "Name", "SHA-256"), rows)


def _licences(report: dict[str, Any]) -> str:
    rows = [
        (
            f"{plain(one['what'])} {code(one['name'])}",
            plain(one["licence"]),
            code(one["said_in"]) if one["said_in"] else "–",
        )
        for one in report["sources"]
    ]
    return _table(("Of", "Licence", "Stated in"), rows)


def _list(items: Any) -> str:
    return "\n".join(f"- {plain(item)}" for item in items)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
