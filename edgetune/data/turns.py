"""Keys of a turn other than role and content: tool calls, reasoning, and whether it trains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgetune.errors import InputError

# Whether a turn trains: axolotl, open-instruct, ms-swift. ``weight`` is OpenAI's and Mistral's.
_TRAINS = ("train", "training", "trainable", "loss")
_DEEPEST = 64  # levels; a schema has a handful


def read_turn(
    turn: Mapping[str, Any], role: str, read: set[str], where: str
) -> tuple[dict[str, Any], bool]:
    """Return a turn's further keys as templates know them, and whether it trains.

    OpenAI's earlier ``function_call`` becomes a tool call. Keys that are null are as if absent.

    Raises:
        InputError: a mark of training that is none of yes and no.
    """
    more = {str(key): value for key, value in turn.items() if key not in read and value is not None}
    trains = True
    if "weight" in more:
        weight = more.pop("weight")
        if weight not in (0, 1):
            raise InputError(
                f"weight {weight!r}: a turn trains (1) or does not (0)",
                where=where,
                hint="drop the key, or round it",
            )
        trains = bool(weight)
    for key in _TRAINS:
        if isinstance(more.get(key), bool):
            trains = more.pop(key) and trains
        elif key in more and key != "loss":
            raise InputError(f"{key} {more[key]!r} is neither true nor false", where=where)
    if more.pop("train_detail", None):
        raise InputError(
            "train_detail marks parts of a turn, which whole turns only can be",
            where=where,
            hint="train: false leaves the whole turn out",
        )
    call = more.pop("function_call", None)
    if call is not None and "tool_calls" not in more:
        more["tool_calls"] = [{"type": "function", "function": call}]
    if "tool_calls" in more:
        calls = more["tool_calls"]
        if isinstance(calls, str):
            calls = _parse(calls, "tool_calls", where)
        if not calls:
            del more["tool_calls"]
        elif not isinstance(calls, list) or not all(isinstance(one, Mapping) for one in calls):
            raise InputError("'tool_calls' is not a list of calls", where=where)
        elif role != "assistant":
            raise InputError(f"a turn of the {role} calls tools", where=where)
        else:
            more["tool_calls"] = calls
    return more, trains


def parse_calls(text: str, where: str) -> list[dict[str, Any]]:
    """Return the calls that ShareGPT writes as the text of a ``function_call`` turn.

    Raises:
        InputError: not JSON, or without the name of a function.
    """
    found = _parse(text, "function_call", where)
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(one, Mapping) and "name" in one for one in calls):
        raise InputError("'function_call' has no name of a function", where=where)
    return [
        {
            "type": "function",
            "function": {"name": one["name"], "arguments": one.get("arguments", {})},
        }
        for one in calls
    ]


def read_tools(value: Mapping[str, Any], format: str, where: str) -> str:
    """Return a row's ``tools`` as JSON; empty if it has none.

    OpenAI's earlier ``functions`` and ShareGPT's tools are bare schemas: they are wrapped as
    templates expect them. The others are handed on as they are.

    Raises:
        InputError: not a list of schemas.
    """
    key = "tools" if value.get("tools") else "functions"
    tools = value.get(key)
    if isinstance(tools, str):
        tools = _parse(tools, key, where) if tools.strip() else None
    if not tools:
        return ""
    if not isinstance(tools, list) or not all(isinstance(one, Mapping) for one in tools):
        raise InputError(f"'{key}' is not a list of schemas", where=where)
    if key == "functions" or format == "sharegpt":
        tools = [
            one if "function" in one or "type" in one else {"type": "function", "function": one}
            for one in tools
        ]
    return pack(tools, where)


def pack(value: Any, where: str) -> str:
    """Return a value as JSON, which is immutable and takes little room.

    Raises:
        InputError: it nests too deeply, or holds half a character.
    """
    if _depth(value, _DEEPEST) < 0:
        raise InputError(f"nested more than {_DEEPEST} levels", where=where)
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError("an unpaired surrogate, half a character", where=where) from error
    return text


def _parse(text: str, key: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{key}' is not JSON: {error}", where=where) from error


def _depth(value: Any, left: int) -> int:
    """How many levels are left below the deepest value; negative if there were too many."""
    if left < 0:
        return -1
    inner = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping | list | tuple):
        return left
    return min((_depth(one, left - 1) for one in inner), default=left)
