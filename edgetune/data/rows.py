"""Rows: one conversation or one text each, whatever shape the file gave it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

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
    """One example: a conversation that ends with an answer, a prompt alone, or plain text.

    Attributes:
        messages: the turns; empty for plain text. The last one is the assistant's, and trains; of a
            prompt alone it is the user's.
        text: the text of a row that trains on everything; ``None`` for a conversation.
        where: file and line (or item) the row came from.
        tools: the tools that the model may call, as a JSON list of their schemas; often none.
        rejected: the turns of the worse answer, after the same prompt; none but for preferences.
        label: whether the answer was liked, for answers with a thumbs up or down.
    """

    messages: tuple[Message, ...]
    text: str | None
    where: str
    tools: str = ""
    rejected: tuple[Message, ...] = ()
    label: bool | None = None

    @property
    def answer(self) -> str:
        """The last assistant turn, or empty; the whole text for a plain-text row."""
        if self.text is not None:
            return self.text
        return self.messages[-1].content if self.is_answered else ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns before the answer; all of a prompt alone."""
        return self.messages[:-1] if self.is_answered else self.messages

    @property
    def is_answered(self) -> bool:
        """Whether the conversation ends with an answer."""
        return bool(self.messages) and self.messages[-1].role == "assistant"

    @property
    def is_plain(self) -> bool:
        """Whether roles and contents are all there is: nothing for tools or of reasoning."""
        return not self.tools and not any(message.more for message in self.messages)


def fill_answer(value: dict[str, Any] | None, completion: str) -> dict[str, Any] | None:
    """Return a raw row with a placeholder where its last answer is missing or empty.

    ``completion`` is the column that an answer would be in, for rows of two columns.
    """
    if value is None or "chosen" in value:
        return value
    for key in ("messages", "conversations"):
        turns = value.get(key)
        if isinstance(turns, list) and turns and isinstance(turns[-1], dict):
            names = ("from", "value") if "from" in turns[-1] else ("role", "content")
            if ROLES.get(str(turns[-1].get(names[0]))) in ("user", "tool"):
                return {**value, key: [*turns, {names[0]: "assistant", names[1]: "-"}]}
            return value
    column = "output" if "instruction" in value else completion
    return value if value.get(column) else {**value, column: "-"}
