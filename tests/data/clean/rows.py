"""Rows that the tests of cleaning are made of."""

from __future__ import annotations

from edgetune.data.rows import Message, Row


def make_row(prompt: str, answer: str = "ok", more: str = "", tools: str = "") -> Row:
    """Return a conversation of one question and its answer."""
    turns = (Message("user", prompt), Message("assistant", answer, more))
    return Row(turns, None, "rows.jsonl:1", tools)
