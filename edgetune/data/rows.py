"""Rows: one conversation or one text each, whatever shape the file gave it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgetune.data.turns import pack, parse_calls, read_tools, read_turn
from edgetune.errors import InputError
from edgetune.recipe import Columns

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}

# The keys each format reads; the first set is needed, the second is used when present.
_MORE = frozenset({"system", "tools", "functions"})
KEYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "messages": (frozenset({"messages"}), _MORE),
    "sharegpt": (frozenset({"conversations"}), _MORE),
    "prompt_completion": (frozenset({"prompt", "completion"}), _MORE),
    "instruction": (frozenset({"instruction", "output"}), _MORE | {"input", "history"}),
    "text": (frozenset({"text"}), frozenset()),
}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Attributes:
        role: ``system``, ``user``, ``assistant`` or ``tool``.
        content: what is said; empty where a turn is all tool calls.
        more: the turn's further keys (``tool_calls``, ``reasoning_content``, ``name``, …) as a
            JSON object, which is immutable; ``{"content": null}`` where the turn has none.
        trains: whether an assistant's turn is trained, or only read.
    """

    role: str
    content: str
    more: str = ""
    trains: bool = True

    def as_turn(self) -> dict[str, Any]:
        """Return the turn as chat templates take it."""
        turn: dict[str, Any] = {"role": self.role, "content": self.content}
        return {**turn, **json.loads(self.more)} if self.more else turn


@dataclass(frozen=True, slots=True)
class Row:
    """One example: either a conversation that ends with an answer, or plain text.

    Attributes:
        messages: the turns; empty for plain text. The last one is the assistant's, and trains.
        text: the text of a row that trains on everything; ``None`` for a conversation.
        where: file and line (or item) the row came from.
        tools: the tools that the model may call, as a JSON list of their schemas; often none.
    """

    messages: tuple[Message, ...]
    text: str | None
    where: str
    tools: str = ""

    @property
    def answer(self) -> str:
        """The last assistant turn; the whole text for a plain-text row."""
        return self.text if self.text is not None else self.messages[-1].content

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns before the answer."""
        return self.messages[:-1]

    @property
    def is_plain(self) -> bool:
        """Whether roles and contents are all there is: nothing for tools or of reasoning."""
        return not self.tools and not any(message.more for message in self.messages)


def detect_format(keys: Iterable[str]) -> str | None:
    """Return the first format whose needed keys are all there, or ``None``."""
    present = set(keys)
    return next((name for name, (needed, _) in KEYS.items() if needed <= present), None)


def make_row(
    value: Mapping[str, Any], format: str, where: str, columns: Columns | None = None
) -> Row:
    """Turn one record into a row.

    The white space around an answer is dropped: answers are compared without it, and a leading
    space is glued to the first word differently by every tokenizer.

    Raises:
        InputError: a key is missing, a value is not text, or there is no answer.
    """
    if format == "text":
        return Row((), _text(value, "text", where), where)
    if format == "messages":
        messages = _messages(_list(value, "messages", where), where)
    elif format == "sharegpt":
        messages = _messages(_list(value, "conversations", where), where)
    elif format == "prompt_completion":
        messages = _sided(value, "prompt", "user", where)
        messages += _sided(value, "completion", "assistant", where)
    elif format == "instruction":
        # The input is the material an instruction speaks of: it belongs below it.
        parts = (_text(value, "instruction", where), _optional(value, "input", where))
        messages = _history(value, where)
        messages.append(Message("user", "\n".join(part for part in parts if part)))
        messages.append(Message("assistant", _text(value, "output", where)))
    else:
        assert columns is not None, "the columns are found when files are loaded"
        messages = [Message("user", _text(value, columns.prompt, where))]
        messages.append(Message("assistant", _label(value, columns.completion, where)))
    system_key = columns.system if columns else "system"
    system = _optional(value, system_key, where) if system_key else ""
    if system and messages[0].role != "system":
        messages.insert(0, Message("system", system))
    tools = read_tools(value, format, where) if columns is None else ""
    return Row(_checked(messages, where), None, where, tools)


def _checked(messages: list[Message], where: str) -> tuple[Message, ...]:
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
    trimmed = [replace(m, content=m.content.strip()) if m.role == "assistant" else m for m in kept]
    if not trimmed[-1].content and "tool_calls" not in trimmed[-1].more:
        raise InputError("the answer is empty", where=where)
    return tuple(trimmed)


def _messages(turns: list[Any], where: str) -> list[Message]:
    messages = []
    for number, turn in enumerate(turns, start=1):
        place = f"{where}, turn {number}"
        if not isinstance(turn, Mapping):
            raise InputError(f"a turn is an object, not {_kind(turn)}", where=place)
        said = "role" if "role" in turn else "from"
        name = str(turn.get(said, ""))
        if name not in ROLES:
            known = ", ".join(sorted(ROLES))
            raise InputError(f"unknown role '{name}'", where=place, hint=f"one of: {known}")
        role = ROLES[name]
        key = "value" if "value" in turn and "content" not in turn else "content"
        more, trains = read_turn(turn, role, {said, key}, place)
        if name == "function_call" and "tool_calls" not in more:
            more["tool_calls"] = parse_calls(_text(turn, key, place), place)
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


def _history(value: Mapping[str, Any], where: str) -> list[Message]:
    """The earlier turns of an instruction: pairs of question and answer."""
    messages = []
    for pair in value.get("history") or ():
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise InputError("'history' is a list of [question, answer]", where=where)
        turn = {"question": pair[0], "answer": pair[1]}
        messages.append(Message("user", _text(turn, "question", where)))
        messages.append(Message("assistant", _text(turn, "answer", where)))
    return messages


def _sided(value: Mapping[str, Any], key: str, role: str, where: str) -> list[Message]:
    """A prompt or a completion: a text, or a list of turns."""
    if isinstance(value.get(key), list):
        return _messages(value[key], where)
    return [Message(role, _text(value, key, where))]


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
    return _text(turn, key, where)


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    if key not in value:
        found = ", ".join(sorted(map(str, value))) or "none"
        raise InputError(f"no key '{key}' (found: {found})", where=where)
    if not isinstance(value[key], str):
        raise InputError(f"'{key}' is {_kind(value[key])}, not text", where=where)
    if not value[key].strip():
        raise InputError(f"'{key}' is empty", where=where)
    return str(value[key])


def _label(value: Mapping[str, Any], key: str, where: str) -> str:
    """A text, or a whole number or truth value as text: labels are often numbers."""
    label = value.get(key)
    return str(label).lower() if isinstance(label, int) else _text(value, key, where)


def _optional(value: Mapping[str, Any], key: str, where: str) -> str:
    """The text under ``key``; empty when it is absent, null or blank."""
    text = value.get(key)
    if text is None or (isinstance(text, str) and not text.strip()):
        return ""
    return _text(value, key, where)


def _list(value: Mapping[str, Any], key: str, where: str) -> list[Any]:
    turns = value.get(key)
    if not isinstance(turns, list):
        raise InputError(f"'{key}' is {_kind(turns)}, not a list of turns", where=where)
    return turns


def _kind(value: Any) -> str:
    names = {type(None): "null", str: "text", dict: "an object", list: "a list", bool: "a boolean"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else "unusable")


def fill_answer(value: dict[str, Any] | None, completion: str) -> dict[str, Any] | None:
    """Return a raw row with a placeholder where its last answer is missing or empty.

    ``completion`` is the column that an answer would be in, for rows of two columns.
    """
    if value is None:
        return None
    for key in ("messages", "conversations"):
        turns = value.get(key)
        if isinstance(turns, list) and turns and isinstance(turns[-1], dict):
            names = ("from", "value") if "from" in turns[-1] else ("role", "content")
            if ROLES.get(str(turns[-1].get(names[0]))) in ("user", "tool"):
                return {**value, key: [*turns, {names[0]: "assistant", names[1]: "-"}]}
            return value
    column = "output" if "instruction" in value else completion
    return value if value.get(column) else {**value, column: "-"}
