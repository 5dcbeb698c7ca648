"""The template contract: what a prompt's text and ids are, frozen at tuning, checked ever after.

The folder holds the tokenizer's files (with the chat template) and ``contract.json``. Whoever loads
it gets the ids that training saw, or an error; exported files are compared with the same examples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from edgetune.artifact import SCRATCH
from edgetune.data.build_encoder import make_encoder
from edgetune.data.chat_format import clock_now, prints_time
from edgetune.data.encode import Encoder
from edgetune.data.encode_rows import unknown_id
from edgetune.data.rows import Message, Row
from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.tokenizer_files import save_tokenizer
from edgetune.recipe import DataSection

NAME = "contract.json"
GOLDEN_ROWS = 6  # prompts of the user's own data that are kept

# What templates and tokenizers stumble over: turns, a system message, bytes beyond ASCII, spaces.
_PROBES = (
    (Message("user", "Hello, what can you do?"),),
    (Message("user", "  naïve café — 12 €\n\n東京 🙂\tend  "),),
    (
        Message("system", "Answer in one line."),
        Message("user", "First question"),
        Message("assistant", "First answer."),
        Message("user", "And then?"),
    ),
)


def write_contract(encoder: Encoder, rows: Sequence[Row], folder: Path) -> dict[str, Any]:
    """Write the tokenizer's files and ``contract.json`` into ``folder``; return the contract.

    Raises:
        InputError: the saved tokenizer does not give the ids of the one in memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(encoder.tokenizer, folder)
    template = str(encoder.tokenizer.chat_template)
    tokens = encoder.tokenizer.convert_ids_to_tokens(list(encoder.stop_ids))
    contract = {
        "schema": 1,
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "end_token": tokens[0],
        "end_id": encoder.end_id,
        "stop_ids": list(encoder.stop_ids),
        "stop_tokens": tokens,
        "system": encoder.system,
        "clock": encoder.clock if prints_time(encoder.tokenizer) else None,
        "max_length": encoder.max_length,
        "embedding_rows": encoder.embedding_rows,
        "golden": make_golden(encoder, rows),
        "golden_tools": _make_tool_golden(encoder, rows),
    }
    text = json.dumps(contract, indent=1, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")
    load_encoder(folder, encoder.max_length)
    return contract


def make_golden(encoder: Encoder, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return example prompts: ``messages``, rendered ``text``, ``ids``, and unknown tokens in them.

    A prompt that the template refuses (many refuse a system message) is left out.
    """
    usual = (row for row in rows if row.text is None and row.is_plain)
    conversations = islice(usual, GOLDEN_ROWS)
    probes = [Row((*turns, Message("assistant", "-")), None, "golden") for turns in _PROBES]
    golden = []
    for row in (*conversations, *probes):
        try:
            text, ids = encoder.prompt_text(row), encoder.prompt(row)
        except InputError:
            continue
        turns = [{"role": m.role, "content": m.content} for m in encoder.messages(row)[:-1]]
        unknown = ids.count(-1 if (found := unknown_id(encoder)) is None else found)
        golden.append({"messages": turns, "text": text, "ids": ids, "unknown_tokens": unknown})
    return golden


def _make_tool_golden(encoder: Encoder, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return example prompts whose turns hold more than contents, with all of their keys.

    They are apart from the others, which every runtime renders and not all with tools.
    """
    golden = []
    for row in islice((row for row in rows if not row.is_plain), GOLDEN_ROWS):
        try:
            text, ids = encoder.prompt_text(row), encoder.prompt(row)
        except InputError:
            continue
        turns = [message.as_turn() for message in encoder.messages(row)[:-1]]
        tools = json.loads(row.tools) if row.tools else None
        golden.append({"messages": turns, "tools": tools, "text": text, "ids": ids})
    return golden


def _golden_row(golden: dict[str, Any], where: str) -> Row:
    turns = [_golden_turn(turn) for turn in golden["messages"]]
    tools = json.dumps(golden["tools"], ensure_ascii=False) if golden.get("tools") else ""
    return Row((*turns, Message("assistant", "-")), None, where, tools)


def _golden_turn(turn: dict[str, Any]) -> Message:
    more = {key: value for key, value in turn.items() if key not in ("role", "content")}
    if turn["content"] is None:
        more["content"] = None
    packed = json.dumps(more, ensure_ascii=False) if more else ""
    return Message(turn["role"], turn["content"] or "", packed)


def read_contract(folder: Path) -> dict[str, Any]:
    """Return the contract in ``folder``.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = folder / NAME
    try:
        contract = json.loads(path.read_text(encoding="utf-8"))
        if contract["schema"] != 1:
            raise ValueError(f"its schema is {contract['schema']}, not 1")
        return dict(contract)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"no readable template contract: {error}", where=str(path)) from error


def golden_of(folder: Path, encoder: Encoder, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the golden prompts of the folder's contract, or those it would hold of ``rows``."""
    if (folder / NAME).exists():
        return list(read_contract(folder)["golden"])
    return make_golden(encoder, rows)


def freeze_clock(out: Path) -> str:
    """Return the time that a stage's templates print: when it began, also where it goes on later.

    Args:
        out: the stage's folder; the time lies in its scratch until the stage is done.
    """
    path = out / SCRATCH / "clock"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    clock = clock_now()
    write_atomic(path, clock)
    return clock


def tell_clock(encoder: Encoder, log: Log) -> str | None:
    """Say, where the template prints the date, that it stays as it is; return it (or ``None``)."""
    if not prints_time(encoder.tokenizer):
        return None
    log.say(
        f"the chat template prints the date: {encoder.clock} stays what this model's rows are "
        "rendered with; programs that run the exported files print their own"
    )
    return encoder.clock


def encoder_of(folder: Path, section: DataSection, clock: str | None = None) -> Encoder:
    """Return the encoder of the folder's contract, or one for the tokenizer of a foreign model,
    whose template prints ``clock`` (``None`` is now)."""
    if (folder / NAME).exists():
        return load_encoder(folder, section.max_length)
    from edgetune.models.tokenizer_files import load_tokenizer

    return make_encoder(load_tokenizer(folder), section, None, clock)


def load_encoder(folder: Path, max_length: int) -> Encoder:
    """Return the encoder that training used.

    Raises:
        InputError: the folder's tokenizer or template no longer gives the recorded text and ids.
    """
    from edgetune.models.tokenizer_files import load_tokenizer

    contract = read_contract(folder)
    encoder = Encoder(
        load_tokenizer(folder),
        contract["end_id"],
        max_length,
        contract["system"],
        tuple(contract["stop_ids"]),
        contract.get("clock") or clock_now(),
        contract.get("embedding_rows"),
    )
    for golden in [*contract["golden"], *contract.get("golden_tools", ())]:
        row = _golden_row(golden, str(folder / NAME))
        for what, found, recorded in (
            ("renders another text", encoder.prompt_text(row), golden["text"]),
            ("gives other ids", encoder.prompt(row), golden["ids"]),
        ):
            if found != recorded:
                raise InputError(
                    f"the tokenizer {what} than at tuning: {found!r}, recorded {recorded!r}",
                    where=str(folder),
                    hint="restore the folder's tokenizer files, or tune again",
                )
    return encoder
