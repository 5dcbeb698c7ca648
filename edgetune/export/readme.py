"""The README of an export folder: what lies there, and how each client runs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgetune.disk import write_atomic
from edgetune.export.snippets import (
    Question,
    Snippet,
    adapter_snippet,
    gguf_snippets,
    onnx_snippets,
)
from edgetune.facts import ExportedAdapter

NAME = "README.md"
_LONGEST = 300  # characters of a prompt that is an example
_CONTEXT, _ANSWER = 2048, 64


def write_readme(
    name: str,
    model: Path,
    files: Sequence[dict[str, Any]],
    adapters: Sequence[ExportedAdapter],
    golden: Sequence[dict[str, Any]],
    out: Path,
) -> None:
    """Write ``README.md`` below ``out``, for the files that are there.

    Args:
        name: of the model.
        model: its Hugging Face folder.
        files: as export describes them, with ``checks``.
        adapters: shipped beside them.
        golden: conversations; the first short one is the example.
        out: the folder that the files' paths are in.
    """
    question = find_question(model, golden)
    parts = [f"# {name}", _table(files), *_sections(files, adapters, question)]
    write_atomic(out / NAME, "\n\n".join(parts) + "\n")


def find_question(model: Path, golden: Sequence[dict[str, Any]]) -> Question:
    """Return the conversation that the snippets ask: of the user's own data where it is short."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    longest = int(config.get("max_position_embeddings") or config.get("n_positions") or _CONTEXT)
    messages = next(
        (
            one["messages"]
            for one in golden
            if sum(len(turn["content"]) for turn in one["messages"]) <= _LONGEST
            and [turn["role"] for turn in one["messages"]] in (["user"], ["system", "user"])
        ),
        [{"role": "user", "content": "Hello"}],
    )
    return Question(messages, min(longest, _CONTEXT), _ANSWER)


def find_snippets(files: Sequence[dict[str, Any]], question: Question) -> dict[str, list[Snippet]]:
    """Return the snippets for the smallest file of each format, by its path."""
    found = {}
    for kind in ("gguf", "onnx"):
        same_format = [file for file in files if file["format"] == kind and not file.get("adapter")]
        if not same_format:
            continue
        file = min(same_format, key=lambda one: int(one["bytes"]))
        path = file["path"]
        found[path] = (
            gguf_snippets(path, file.get("modelfile"), question)
            if kind == "gguf"
            else onnx_snippets(path, question)
        )
    return found


def _table(files: Sequence[dict[str, Any]]) -> str:
    rows = [
        f"| `{_shown(file)}` | {file['bytes']:,} | {file['checks']['kl_all_tokens']:.2g} | "
        f"{'equal' if file['checks']['token_ids_equal'] else '**differ**'} |"
        for file in files
    ]
    head = "| File | Bytes | KL to the model, all tokens | Token ids |\n| --- | --- | --- | --- |"
    return "\n".join([head, *rows])


def _shown(file: dict[str, Any]) -> str:
    """A path below the folder; of a file that was tuned over, which lies elsewhere, its name."""
    adapter = file.get("adapter")
    return f"{Path(file['path']).name} + {adapter}" if adapter else str(file["path"])


def _sections(
    files: Sequence[dict[str, Any]],
    adapters: Sequence[ExportedAdapter],
    question: Question,
) -> list[str]:
    parts = [
        "Every path below starts in this folder; the other files of a format are used the same "
        "way. Answers are greedy (temperature 0), as they were measured."
    ]
    for path, snippets in find_snippets(files, question).items():
        parts.append(f"## `{path}`")
        parts += [_show(one) for one in snippets]
    over = {file["adapter"]: Path(file["path"]).name for file in files if file.get("adapter")}
    for adapter in adapters:
        if adapter.format == "gguf":
            parts.append(f"## `{adapter.path}`")
            parts.append(_show(adapter_snippet(adapter.path, question, over.get(adapter.path))))
    return parts


def _show(one: Snippet) -> str:
    fence = "```"
    while fence in one.code:
        fence += "`"
    note = f"\n\n{one.note}" if one.note else ""
    return f"### {one.client}\n\n{one.install}\n\n{fence}{one.language}\n{one.code}\n{fence}{note}"
