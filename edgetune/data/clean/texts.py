"""The texts of a row, read and replaced wherever they are: turns, tools, JSON in either."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from edgetune.data.rows import Message, Row

Change = Callable[[str], str]


def list_turns(row: Row) -> tuple[Message, ...]:
    """Return all turns of a row, those of a rejected answer last."""
    rejected: tuple[Message, ...] = getattr(row, "rejected", ())
    return row.messages + rejected


def list_contents(row: Row) -> list[str]:
    """Return what is said in a row: the contents of its turns, or its plain text."""
    contents = [turn.content for turn in list_turns(row) if turn.content]
    return [row.text, *contents] if row.text is not None else contents


def list_texts(row: Row) -> Iterator[str]:
    """Yield every text of a row, JSON of tools and tool calls as it is stored."""
    if row.text is not None:
        yield row.text
    if row.tools:
        yield row.tools
    for turn in list_turns(row):
        yield turn.content
        if turn.more:
            yield turn.more


def map_texts(row: Row, change: Change) -> Row:
    """Return a row with each text changed, strings inside JSON too; the same row if none is."""
    text = None if row.text is None else change(row.text)
    messages = tuple(_map_turn(turn, change) for turn in row.messages)
    tools = map_json(row.tools, change)
    changed: dict[str, Any] = {}
    rejected: tuple[Message, ...] = getattr(row, "rejected", ())
    if rejected:
        turns = tuple(_map_turn(turn, change) for turn in rejected)
        if turns != rejected:
            changed["rejected"] = turns
    if text != row.text:
        changed["text"] = text
    if messages != row.messages:
        changed["messages"] = messages
    if tools != row.tools:
        changed["tools"] = tools
    return replace(row, **changed) if changed else row


def _map_turn(turn: Message, change: Change) -> Message:
    content = change(turn.content) if turn.content else turn.content
    more = map_json(turn.more, change)
    if content == turn.content and more == turn.more:
        return turn
    return replace(turn, content=content, more=more)


def map_json(text: str, change: Change) -> str:
    """Return a JSON text with its string values changed; keys are names, and stay.

    A string that is JSON itself, as OpenAI writes a call's arguments, is changed inside.
    """
    if not text:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return change(text)
    mapped = _map_value(value, change)
    return text if mapped == value else json.dumps(mapped, ensure_ascii=False)


def _map_value(value: Any, change: Change) -> Any:
    if isinstance(value, str):
        return map_json(value, change) if value.lstrip()[:1] in ("{", "[") else change(value)
    if isinstance(value, dict):
        return {key: _map_value(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_map_value(one, change) for one in value]
    return value
