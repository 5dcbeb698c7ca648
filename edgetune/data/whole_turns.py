"""Turns with more than a content, as the chat template writes them: tool calls, reasoning.

What a template writes for such a turn is in no one key of it. So the conversation is rendered
twice, once with a marker instead of each answer, and the two texts are aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgetune.data.chat_format import REASONING
from edgetune.data.rows import Message, Row
from edgetune.data.spans import Span
from edgetune.errors import InputError

_MARK = "\ue000edgetune-{}\ue001"  # of characters that no template has a rule for


class Render(Protocol):
    """Renders conversations; each with its row's name for errors, and its tools."""

    def __call__(
        self, conversations: Sequence[Sequence[Message]], where: Sequence[str],
        tools: Sequence[str], open_answer: bool,
    ) -> list[str | InputError]: ...  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A row as its template writes it.

    Attributes:
        context: all before the last answer.
        spans: where in ``context`` earlier answers lie that train, their end tokens with them.
        answer: what is trained of the last answer, but for the end token.
        ends: whether the end token follows it; else the answer contains an end token.
    """

    context: str
    spans: list[Span]
    answer: str
    ends: bool


def write_turns(
    render: Render, rows: Sequence[Row], turns: Sequence[tuple[Message, ...]], end_text: str
) -> list[Written | InputError]:
    """Return each row as its template writes it, or why it cannot.

    Args:
        render: gives the texts of conversations.
        rows: those that are not plain.
        turns: their messages, with the recipe's system message.
        end_text: the token that ends an answer.
    """
    where, tools = [row.where for row in rows], [row.tools for row in rows]
    prompts = render([some[:-1] for some in turns], where, tools, True)
    texts = render(turns, where, tools, False)
    marked = render([_mark(some) for some in turns], where, tools, False)
    found: list[Written | InputError] = []
    for row, some, prompt, text, other in zip(rows, turns, prompts, texts, marked, strict=True):
        if isinstance(prompt, InputError) or isinstance(text, InputError):
            found.append(prompt if isinstance(prompt, InputError) else text)  # type: ignore[arg-type]
            continue
        answers = [number for number, turn in enumerate(some) if turn.role == "assistant"]
        places = _lay(text, other, len(answers)) if isinstance(other, str) else None
        if places is None:
            places = [_lay_one(render, row, some, number, text) for number in answers]
        try:
            found.append(
                _take(row, some, dict(zip(answers, places, strict=True)), prompt, text, end_text)
            )
        except InputError as error:
            found.append(error)
    return found


#: Where an answer lies in the text, and what the template writes behind an answer.
_Place = tuple[int, int, str] | None


def _take(
    row: Row, turns: Sequence[Message], places: dict[int, _Place], prompt: str, text: str,
    end_text: str,
) -> Written:  # fmt: skip
    spans: list[Span] = []
    for number, place in places.items():
        turn = turns[number]
        said = text[place[0] : place[1]] if place else ""
        _check_calls(turn, said if place else text, row.where)
        if place and number < len(turns) - 1 and turn.trains and turn.content in said:
            spans.append((place[0], place[1] + len(end_text) * text.startswith(end_text, place[1])))
    last = places[len(turns) - 1]
    if last is None:
        if not text.startswith(prompt):
            raise InputError("the answer is not found in what the template writes", where=row.where)
        end = text.find(end_text, len(prompt))
        last = (len(prompt), len(text) if end < 0 else end, end_text)
    start, end, behind = last
    ends = text.startswith(end_text, end) or not behind.startswith(end_text)
    if text.startswith(prompt) and len(prompt) <= end:
        context, start = prompt, len(prompt)
    elif prompt.startswith(text[:start]) and not _shows_reasoning(turns[-1], text[start:end]):
        context = prompt  # it opens a thought that this answer does not have
    else:
        context = text[:start]
    return Written(context, [s for s in spans if s[1] <= len(context)], text[start:end], ends)


def _mark(turns: Sequence[Message]) -> list[Message]:
    """Replace the text of each answer by a marker."""
    return [
        Message("assistant", _MARK.format(number)) if turn.role == "assistant" else turn
        for number, turn in enumerate(turns)
    ]


def _lay(text: str, marked: str, count: int) -> list[_Place] | None:
    """Return where each answer lies; ``None`` if the rest of the two texts is not the same."""
    around = [piece.partition("\ue001")[2] for piece in marked.split("\ue000")]
    around[0] = marked.partition("\ue000")[0]
    if len(around) != count + 1:
        return None
    places: list[_Place] = []
    at = 0
    for number, before in enumerate(around[:-1]):
        if not text.startswith(before, at):
            return None
        at += len(before)
        behind = around[number + 1]
        if number == count - 1:
            end = len(text) - len(behind) if text.endswith(behind) else -1
        else:
            end = text.find(behind, at) if behind else -1
        if end < at:
            return None
        places.append((at, end, behind))
        at = end
    return places


def _lay_one(render: Render, row: Row, turns: Sequence[Message], number: int, text: str) -> _Place:
    """Return where one answer lies, by what the text has in common with one without it."""
    others = [*turns]
    others[number] = Message("assistant", _MARK.format(number))
    marked = render([others], [row.where], [row.tools], False)[0]
    if isinstance(marked, InputError) or marked.count("\ue000") != 1:
        return None
    before, _, rest = marked.partition("\ue000")
    behind = rest.partition("\ue001")[2]
    start = _shared(text, before)
    end = len(text) - _shared(text[::-1], behind[::-1])
    return (start, end, behind) if start < end else None


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _check_calls(turn: Message, said: str, where: str) -> None:
    """Refuse a turn whose tool calls the template leaves out."""
    calls: list[dict[str, Any]] = turn.as_turn().get("tool_calls") or [] if turn.more else []
    for call in calls:
        name = (call.get("function") or call).get("name")
        if not isinstance(name, str):
            raise InputError("a tool call has no name of a function", where=where)
        if name not in said:
            raise InputError(
                f"the chat template does not show the tool calls (of '{name}')",
                where=where,
                hint="use a model whose template writes tool calls, or write them into content",
            )


def _shows_reasoning(turn: Message, said: str) -> bool:
    values = turn.as_turn()
    return any(
        isinstance(values.get(name), str) and values[name].strip() in said and values[name].strip()
        for name in REASONING
    )
