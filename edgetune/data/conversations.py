"""Values of a record to turns: texts, lists of turns, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgetune.data.rows import ROLES, Message
from edgetune.data.turns import pack, parse_calls, read_turn
from edgetune.errors import InputError
from edgetune.recipe.data import COLUMN_PLACE


def end_at_answer(messages: list[Message], where: str) -> tuple[Message, ...]:
    """End the conversation at its last trained answer; nothing after it could be trained."""
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if not answers:
        raise InputError("no assistant turn, so nothing to train on", where=where)
    trained = [index for index in answers if messages[index].trains]
    if not trained:
        raise InputError("no assistant turn trains: all are marked as context", where=where)
    kept = messages[: trained[-1] + 1]
    if not any(message.role == "user" for message in kept):
        raise InputError("the answer comes before any user turn", where=where)
    trimmed = trim_answers(kept)
    if not trimmed[-1].content and "tool_calls" not in trimmed[-1].more:
        raise InputError("the answer is empty", where=where)
    return trimmed


def trim_answers(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the turns without the white space around answers."""
    return tuple(
        replace(one, content=one.content.strip()) if one.role == "assistant" else one
        for one in messages
    )


def end_at_prompt(messages: list[Message], where: str) -> tuple[Message, ...]:
    """Return the turns of a prompt, the last of which is to be answered."""
    if messages[-1].role not in ("user", "tool"):
        raise InputError("the prompt does not end with a turn of the user", where=where)
    return tuple(messages)


def read_messages(turns: list[Any], where: str) -> list[Message]:
    """Return the messages of a list of turns."""
    messages = []
    for number, turn in enumerate(turns, start=1):
        place = f"{where}, turn {number}"
        if not isinstance(turn, Mapping):
            raise InputError(f"a turn is an object, not {name_kind(turn)}", where=place)
        said = "role" if "role" in turn else "from"
        name = str(turn.get(said, ""))
        if name not in ROLES:
            known = ", ".join(sorted(ROLES))
            raise InputError(f"unknown role '{name}'", where=place, hint=f"one of: {known}")
        role = ROLES[name]
        key = "value" if "value" in turn and "content" not in turn else "content"
        more, trains = read_turn(turn, role, {said, key}, place)
        if name == "function_call" and "tool_calls" not in more:
            more["tool_calls"] = parse_calls(read_text(turn, key, place), place)
            content = ""
        else:
            content = _content(
                turn, key, place, empty=role in ("system", "tool") or "tool_calls" in more
            )
        if turn.get(key) is None:
            more["content"] = None
        packed = pack(more, place) if more else ""
        messages.append(Message(role, content, packed, trains))
    if not messages:
        raise InputError("the conversation has no turns", where=where)
    return messages


def read_history(value: Mapping[str, Any], where: str) -> list[Message]:
    """Return the earlier turns of an instruction: pairs of question and answer."""
    messages = []
    for pair in value.get("history") or ():
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise InputError("'history' is a list of [question, answer]", where=where)
        turn = {"question": pair[0], "answer": pair[1]}
        messages.append(Message("user", read_text(turn, "question", where)))
        messages.append(Message("assistant", read_text(turn, "answer", where)))
    return messages


def read_side(value: Mapping[str, Any], key: str, role: str, where: str) -> list[Message]:
    """Return a prompt or a completion: a text, or a list of turns."""
    if isinstance(value.get(key), list):
        return read_messages(value[key], where)
    return [Message(role, read_text(value, key, where))]


def _content(turn: Mapping[str, Any], key: str, where: str, empty: bool = False) -> str:
    """The text of a turn, also when it is given in parts of type ``text``.

    With ``empty`` there may be none: in system turns, results of tools, and beside tool calls.
    """
    content = turn.get(key)
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        if len(texts) == len(content) and all(isinstance(text, str) for text in texts):
            return "".join(text for text in texts if text)
        raise InputError("a part of the content is not text", where=where)
    if empty and (content is None or content == ""):
        return ""
    return read_text(turn, key, where)


def read_text(value: Mapping[str, Any], key: str, where: str) -> str:
    """Return the text under ``key``, which is there and not blank."""
    _need(value, key, where)
    if not isinstance(value[key], str):
        raise InputError(f"'{key}' is {name_kind(value[key])}, not text", where=where)
    if not value[key].strip():
        raise InputError(f"'{key}' is empty", where=where)
    return str(value[key])


def fill_text(value: Mapping[str, Any], text: str, where: str) -> str:
    """Return the value of a column, or ``text`` with the values of the columns in its braces.

    Whole numbers and truth values are texts too, as labels are often numbers; objects and lists
    are JSON; what is null in a text with braces is empty.
    """
    if text in value or not (names := COLUMN_PLACE.findall(text)):
        return _label(value, text, where)
    for name in names:
        _need(value, name, where)
    text = COLUMN_PLACE.sub(lambda match: _written(value[match[1]]), text)
    if not text.strip():
        raise InputError(f"the columns {', '.join(names)} are empty", where=where)
    return text


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else str(value)


def _label(value: Mapping[str, Any], key: str, where: str) -> str:
    label = value.get(key)
    if isinstance(label, int | Mapping | list):
        return _written(label)
    return read_text(value, key, where)


def read_optional(value: Mapping[str, Any], key: str, where: str) -> str:
    """Return the text under ``key``; empty when it is absent, null or blank."""
    text = value.get(key)
    if text is None or (isinstance(text, str) and not text.strip()):
        return ""
    return read_text(value, key, where)


def read_thumb(value: Mapping[str, Any], keys: Sequence[str], where: str) -> bool:
    """Return whether an answer was liked, as the first of ``keys`` that is there says."""
    key = next((name for name in keys if name in value), keys[0])
    said = value.get(key)
    if isinstance(said, str) and said.strip().lower() in ("true", "false"):
        return said.strip().lower() == "true"
    if not isinstance(said, bool):
        raise InputError(f"'{key}' is {name_kind(said)}, neither true nor false", where=where)
    return said


def read_list(value: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """Return the list of turns under ``key``."""
    _need(value, key, where)
    turns = value.get(key)
    if not isinstance(turns, list):
        raise InputError(f"'{key}' is {name_kind(turns)}, not a list of turns", where=where)
    return turns


def _need(value: Mapping[str, Any], key: str, where: str) -> None:
    if key not in value:
        found = ", ".join(sorted(map(str, value))) or "none"
        raise InputError(f"no key '{key}' (found: {found})", where=where)


def name_kind(value: Any) -> str:
    """Say what kind of value a value is."""
    names = {type(None): "null", str: "text", dict: "an object", list: "a list", bool: "a boolean"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else "unusable")
