"""Ollama Modelfiles: a file, how its prompts are written, and where its answers end.

https://github.com/ollama/ollama/blob/main/docs/modelfile.mdx. A value has no escapes there, so
each is read back here as Ollama reads it, and left out where that gives another text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgetune.data.chat_format import render
from edgetune.data.encode import Encoder
from edgetune.data.rows import Message
from edgetune.disk import write_atomic
from edgetune.export.ollama.go_template import GoTemplate, Turns, derive_go_template


class Client(Protocol):
    """A runtime that tokenizes prompts as programs built on llama.cpp do."""

    def tokenize_prompt(self, text: str) -> list[int]:
        """Return the ids of a whole prompt, a begin token added where the file asks for one."""


@dataclass(frozen=True)
class PromptFormat:
    """How a client should talk to the model.

    Attributes:
        template: proven, or absent where no derived template writes what training saw.
        proofs: on how many golden conversations it was proven.
        system: the system message of conversations without one.
        stops: texts that end an answer.
    """

    template: GoTemplate | None
    proofs: int
    system: str | None
    stops: tuple[str, ...]


def derive_prompt_format(
    encoder: Encoder, golden: Sequence[dict[str, Any]], client: Client
) -> PromptFormat:
    """Derive the template of a file and prove it on golden conversations.

    Args:
        encoder: the tokenizer that training used.
        golden: ``{"messages", "text", "ids"}``, as the contract holds them.
        client: the file, loaded.
    """
    tokenizer = encoder.tokenizer

    def ask(turns: Turns, open_answer: bool) -> str:
        messages = [Message(turn["role"], turn["content"]) for turn in turns]
        return render(
            tokenizer, messages, "the chat template", open_answer=open_answer, clock=encoder.clock
        )

    stops = tuple(str(tokenizer.decode([id])) for id in encoder.stop_ids)
    derived = derive_go_template(ask)
    begin = str(tokenizer.bos_token or "")
    found = None
    if derived is not None:
        shorter = derived.without_begin(begin)
        if shorter is not None and _proves(shorter, golden, client, begin):
            found = shorter
        elif _proves(derived, golden, client, ""):
            found = derived
    return PromptFormat(found, len(golden), encoder.system, stops)


def _proves(
    template: GoTemplate, golden: Sequence[dict[str, Any]], client: Client, begin: str
) -> bool:
    """Whether a client gives the recorded text and ids, ``begin`` being its own to write."""
    for example in golden:
        if {turn["role"] for turn in example["messages"]} - set(template.around):
            return False
        text = template.render(example["messages"])
        if begin + text != example["text"] or client.tokenize_prompt(text) != example["ids"]:
            return False
    return bool(golden)


def write_modelfile(file: Path, prompt_format: PromptFormat) -> Path:
    """Write ``<file without suffix>.Modelfile`` beside a GGUF file and return its path."""
    path = file.with_suffix(".Modelfile")
    parts = [
        f"# ollama create NAME -f {path.name}\nFROM ./{file.name}",
        _template_part(prompt_format),
        *([_system_part(prompt_format.system)] if prompt_format.system is not None else []),
        *([_stop_part(prompt_format.stops)] if prompt_format.stops else []),
        "# Greedy and without penalties: how the answers of the report were made.\n"
        "PARAMETER temperature 0\nPARAMETER repeat_penalty 1",
    ]
    write_atomic(path, "\n\n".join(parts) + "\n")
    return path


def _template_part(prompt_format: PromptFormat) -> str:
    value = quote_value(prompt_format.template.source()) if prompt_format.template else None
    if value is None:
        return (
            "# No TEMPLATE: none was found that writes what training saw. Ollama looks for one of\n"
            "# its own that resembles the chat template in the file; compare before you rely on it."
        )
    return (
        f"# Gives the text and token ids of training on {prompt_format.proofs} conversations of "
        f"contract.json.\nTEMPLATE {value}"
    )


def _system_part(system: str) -> str:
    value = quote_value(system)
    if value is None:
        return "# No SYSTEM: a Modelfile cannot hold the recipe's system message (data.system)."
    return f"SYSTEM {value}"


def _stop_part(stops: Sequence[str]) -> str:
    lines = []
    for stop in dict.fromkeys(stops):
        value = quote_value(stop) if stop else None
        if value is not None:
            lines.append(f"PARAMETER stop {value}")
    return "\n".join(lines) or "# No stop: a Modelfile cannot hold the end token's text."


def quote_value(text: str) -> str | None:
    """Return ``text`` in quotes such that Ollama's parser gives it back, or ``None``."""
    forms = ('"{}"', '"""{}"""')
    for form in reversed(forms) if '"' in text or "\n" in text else forms:
        value = form.format(text)
        if read_value(value + "\n") == text:
            return value
    return None


def read_value(lines: str) -> str | None:
    """Return a value as Ollama's parser does, if it takes all of ``lines``.

    It drops what is not printable. At the end of each line it looks at what it has, outer space
    removed: a value that begins with quotes goes on until it ends in as many.
    """
    read = ""
    for at, sign in enumerate(lines):
        if sign in "\r\n":
            inner = _unquote(read.strip())
            if inner is not None:
                return inner if at == len(lines) - 1 else None
        if sign.isprintable() or sign in "\r\n\t":
            read += sign
    return None


def _unquote(text: str) -> str | None:
    for mark in ('"""', '"'):
        if text.startswith(mark):
            whole = len(text) >= 2 * len(mark) and text.endswith(mark)
            return text[len(mark) : -len(mark)] if whole else None
    return text
