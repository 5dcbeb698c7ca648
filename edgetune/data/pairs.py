"""Preferences to turns: a prompt, its chosen and its rejected answer, however they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgetune.data.conversations import read_messages, read_optional, read_side, read_text
from edgetune.data.rows import Message, Row
from edgetune.errors import InputError
from edgetune.log import counted

# Where the prompt lies, the first that is there.
_PROMPTS = ("prompt", "conversations", "messages", "question")


def read_pair(value: Mapping[str, Any], where: str) -> tuple[list[Message], tuple[Message, ...]]:
    """Return the turns that end with the chosen answer, and those of the rejected one alone.

    Each side is a text, a turn, or a list of turns. Sides that begin with the same turns of system
    and user hold the prompt themselves (TRL's implicit prompt), whatever lies beside them.

    Raises:
        InputError: no prompt, no answer, or answers of different numbers of turns.
    """
    chosen, rejected = (_read_answers(value, key, where) for key in ("chosen", "rejected"))
    shared = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other or (one.role == "assistant" and shared + 1 in (len(chosen), len(rejected))):
            break
        shared += 1
    if any(turn.role == "user" for turn in chosen[:shared]):
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    else:
        prompt = _read_prompt(value, where)
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[-1].role != "assistant":
            raise InputError(f"'{name}' ends without an answer", where=where)
        if turns[0].role != "assistant":
            raise InputError(
                "'chosen' and 'rejected' answer different prompts", where=where,
                hint="both begin with the same turns, or with their answer",
            )  # fmt: skip
    if len(chosen) != len(rejected):
        raise InputError(
            f"'chosen' has {counted(len(chosen), 'turn')} and 'rejected' has {len(rejected)}",
            where=where, hint="both answers of a pair have as many turns, at best one",
        )  # fmt: skip
    return [*prompt, *chosen], tuple(rejected)


def _read_answers(value: Mapping[str, Any], key: str, where: str) -> list[Message]:
    if isinstance(value.get(key), Mapping):
        return read_messages([value[key]], where)
    return read_side(value, key, "assistant", where)


def _read_prompt(value: Mapping[str, Any], where: str) -> list[Message]:
    if value.get("instruction"):
        parts = (read_text(value, "instruction", where), read_optional(value, "input", where))
        return [Message("user", "\n".join(part for part in parts if part))]
    key = next((name for name in _PROMPTS if value.get(name)), "prompt")
    return read_side(value, key, "user", where)


def why_no_pair(row: Row) -> str:
    """Return why a row has no two answers to compare; empty if it has."""
    if not row.rejected:
        return "no rejected answer"
    if row.rejected == row.messages[-len(row.rejected) :]:
        return "'chosen' and 'rejected' are the same"
    return ""


def split_pair(row: Row) -> list[Row]:
    """Return a pair as two rows, one of each answer; any other row as it is."""
    if not row.rejected:
        return [row]
    prompt = row.messages[: len(row.messages) - len(row.rejected)]
    return [row, replace(row, messages=(*prompt, *row.rejected), rejected=())]
