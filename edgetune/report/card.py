"""The model card: what ships, what it was made of, and how good it is, as Hugging Face shows it.

The head is YAML, the rest Markdown. Names come from paths, data and other people's files, so every
one of them is escaped: none can end the head, open a tag, or draw a link.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from edgetune.models.licence import NOT_STATED
from edgetune.report.data import list_hub_datasets
from edgetune.report.format import percent, small
from edgetune.report.jinja import markdown_environment, render
from edgetune.report.markdown import join_blocks

_SIGNS = re.compile(r"([\\`*_\[\]|~$@])")
_HUB_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # an identifier, as the hub lists them


def render_card(report: dict[str, Any]) -> str:
    """Return the page; scores are on it once the bench has run."""
    environment = markdown_environment(plain, plain, align="---")
    environment.globals |= {
        "code": lambda text: Markup(code(text)),
        "number": lambda count: Markup(f"{count:,}"),
        "source_title": lambda one: Markup(f"{plain(one['what'])} {code(one['name'])}"),
    }
    page = render(
        environment,
        "card.md.j2",
        report=report,
        head=Markup(_head(report)),
        base=report["sources"][0],
        steps=_steps(report),
        uses=_uses(report),
        test_rows=_count_test_rows(report["models"]),
    )
    return join_blocks(page)


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
    if datasets := list_hub_datasets(report.get("data")):
        head["datasets"] = [_one_line(name) for name in datasets]
    recipe = report["recipe"]
    made = [word for word in ("tune", "distill") if word in recipe]
    method = list(dict.fromkeys(step["method"] for step in _tunings(recipe)))
    head["tags"] = ["edgetune", *formats, *made, *(_one_line(word) for word in method)]
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000)


def _tunings(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of the tuning, one where it is a single section."""
    tune = recipe.get("tune") or []
    return tune if isinstance(tune, list) else [tune]


def _count_test_rows(models: list[dict[str, Any]]) -> int | None:
    """Return how many test rows exact match was measured on."""
    measurements = (one for model in models for one in model["measurements"])
    return next((one["n"] for one in measurements if one["name"] == "exact_match"), None)


def _uses(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return text and command per runtime, for the file of the headline or the smallest."""
    chosen = report["headline"].get("model")
    uses = []
    for kind in ("gguf", "onnx"):
        files = [file for file in report["files"] if file["format"] == kind and file["path"]]
        if not files:
            continue
        named = next((file for file in files if file["name"] == chosen), None)
        file = named or min(files, key=lambda one: int(one["bytes"]))
        if file.get("adapter"):
            command = f"llama-cli -m {file['path']} --lora {file['adapter']} -st --temp 0 -p PROMPT"
            return [("llama.cpp, the file and its adapter:", command)]
        if kind == "onnx":
            uses.append(("onnxruntime-genai: the folder", file["path"]))
            continue
        uses.append(("llama.cpp:", f"llama-cli -m {file['path']} -st --temp 0 -p PROMPT"))
        if file.get("modelfile"):
            uses.append(("Ollama:", f"ollama create NAME -f {file['modelfile']}"))
    return uses + [
        ("the adapter:", f"llama-cli -m BASE.gguf --lora {adapter['path']}")
        for adapter in report["adapters"]
        if adapter["format"] == "gguf"
    ]


def _steps(report: dict[str, Any]) -> list[Markup]:
    """Return what each stage did to the base model, as Markdown."""
    recipe, steps = report["recipe"], []
    for tune, done in zip(_tunings(recipe), report.get("steps", ()), strict=False):
        how = (
            "all weights" if done["method"] == "full" else f"{done['method']}, rank {tune['rank']}"
        )
        what = f"train rows of {done['name']}" if tune.get("data") else "train rows"
        rows = next((s["name"] for s in report["sources"] if s["what"] == what), "")
        aim = "" if tune["objective"] == "sft" else f"{tune['objective']}, "
        count = f", {done['steps']:,} steps" if done["steps"] else ""
        if tune.get("base"):
            count += f", over the weights of {Path(tune['base']).name}"
        steps.append(f"tuned ({plain(aim + how)}{count}) on {code(rows)}")
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
    return [Markup(step) for step in steps]
