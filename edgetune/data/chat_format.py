"""Chat templates: the tokenizer's own, or a plain one of ours that travels with the tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from edgetune.data.rows import Message, Row
from edgetune.errors import InputError
from edgetune.runtimes.template import render_conversations

REASONING = ("reasoning_content", "reasoning", "thinking")  # one thing under three names
_ARGUMENTS_AS_TEXT = re.compile(r"arguments(\s*'\])?\s+is\s+(not\s+)?(string|mapping)")
PROBE = "edgetune-probe"  # an answer that no template writes by itself


def set_plain_template(tokenizer: Any, end_token: str | None) -> None:
    """Give the tokenizer a template of contents and newlines, without role words.

    A beginning token, where the tokenizer adds one, is written by the template, so that every
    runtime gets it from the text and none has to add it. Tokens are literals: a runtime that does
    not pass ``bos_token`` to templates renders the same text.
    """
    begin = tokenizer.bos_token if adds_begin_token(tokenizer) else ""
    first, last = (_literal(text) if text else "" for text in (begin, end_token))
    tokenizer.chat_template = (
        f"{first}{{% for message in messages %}}{{{{ message['content'] }}}}"
        f"{{% if message['role'] == 'assistant' %}}{last}{{% endif %}}"
        "{{ '\\n' }}{% endfor %}"
    )


def adds_begin_token(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its beginning token before a text by itself."""
    ids = tokenizer("x").input_ids
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def template_end_token(tokenizer: Any) -> str | None:
    """Return the special token that the chat template writes after an answer, if it writes one.

    Raises:
        InputError: the template cannot render a question and an answer.
    """
    if not tokenizer.chat_template:
        return None
    turns = (Message("user", "question"), Message("assistant", PROBE))
    _, found, tail = render(tokenizer, turns, "the chat template").rpartition(PROBE)
    added = tokenizer.added_tokens_decoder
    ids = tokenizer(tail, add_special_tokens=False).input_ids if found else []
    return next((str(added[id].content) for id in ids if id in added), None)


def prints_time(tokenizer: Any) -> bool:
    """Whether the chat template writes the date or the time (``strftime_now``)."""
    return "strftime_now" in str(tokenizer.chat_template)


def clock_now() -> str:
    """Return the local time as contracts keep it for templates that print it: ISO 8601."""
    return datetime.now().isoformat(timespec="seconds")


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    where: str,
    *,
    open_answer: bool = False,
    clock: str | None = None,
    tools: str = "",
) -> str:
    """Return the conversation's text; with ``open_answer``, up to where an answer begins.

    Raises:
        InputError: the template refuses these turns.
    """
    found = render_many(
        tokenizer, [messages], [where], open_answer=open_answer, clock=clock, tools=[tools]
    )[0]
    if isinstance(found, InputError):
        raise found
    return found


def render_many(
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    where: Sequence[str],
    *,
    open_answer: bool,
    clock: str | None = None,
    tools: Sequence[str] | None = None,
) -> list[str | InputError]:
    """Return each conversation's text, or the error of one that the template refuses.

    Args:
        tokenizer: carries the template and the special tokens it names.
        conversations: turns.
        where: what each conversation is called in its error.
        open_answer: end where an answer begins.
        clock: the time that the template prints; now, where there is none.
        tools: for each conversation the JSON of the tools that may be called.
    """
    source = str(tokenizer.chat_template)
    special = tokenizer.special_tokens_map
    jobs = [
        {
            "messages": [turn_for(turn, source) for turn in turns],
            "add_generation_prompt": open_answer,
            **({"tools": json.loads(tools[number])} if tools and tools[number] else {}),
        }
        for number, turns in enumerate(conversations)
    ]
    found = render_conversations(tokenizer.chat_template, jobs, special, where, clock)
    # Templates differ in what they make of no content: an error, or the word None. Of those that
    # do either, an empty one is asked for.
    empty = [number for number, job in enumerate(jobs) if _has_null(job["messages"])]
    if empty:
        filled = [
            {**jobs[n], "messages": [{**t, "content": t["content"] or ""} for t in turns]}
            for n, turns in ((n, jobs[n]["messages"]) for n in empty)
        ]
        others = render_conversations(
            tokenizer.chat_template, filled, special, [where[n] for n in empty], clock
        )
        for number, other in zip(empty, others, strict=True):
            text = found[number]
            if isinstance(text, InputError) or (
                isinstance(other, str) and text.count("None") > other.count("None")
            ):
                found[number] = other
    return [_explain(one) if isinstance(one, InputError) else one for one in found]


def turn_for(message: Message, source: str) -> dict[str, Any]:
    """Return a turn under the names that this template reads.

    Reasoning goes by three names. Arguments of a call come as JSON or as its text; a template that
    does not ask which of them takes an object (Hugging Face's convention), and would write the text
    as a quoted one.
    """
    turn = message.as_turn()
    if not message.more:
        return turn
    given = [name for name in REASONING if name in turn]
    known = [name for name in REASONING if reads(source, name)]
    if given and known and not set(given) & set(known):
        turn[known[0]] = turn.pop(given[0])
    if turn.get("tool_calls") and not _ARGUMENTS_AS_TEXT.search(source):
        turn["tool_calls"] = [_with_arguments(call) for call in turn["tool_calls"]]
    return turn


def unread_keys(row: Row, source: str) -> list[str]:
    """Return the further keys of a row's turns, and ``tools``, that its template does not name."""
    keys = {key for m in row.messages if m.more for key in turn_for(m, source)}
    keys |= {"tools"} if row.tools else set()
    return sorted(key for key in keys - {"role", "content"} if not reads(source, key))


@lru_cache(maxsize=4096)
def reads(source: str, name: str) -> bool:
    """Whether a template names a key."""
    return re.search(rf"\b{re.escape(name)}\b", source) is not None


def _with_arguments(call: dict[str, Any]) -> dict[str, Any]:
    inner = call.get("function", call)
    if not isinstance(inner, dict) or not isinstance(inner.get("arguments"), str):
        return call
    try:
        arguments = json.loads(inner["arguments"])
        json.dumps(arguments, ensure_ascii=False).encode()  # half a character stays an escape
    except (ValueError, RecursionError):
        return call
    inner = {**inner, "arguments": arguments}
    return {**call, "function": inner} if "function" in call else inner


def _has_null(turns: Sequence[dict[str, Any]]) -> bool:
    return any(turn["content"] is None for turn in turns)


def _explain(error: InputError) -> InputError:
    return InputError(
        f"the chat template refuses this conversation: {error.what}",
        where=error.where,
        hint="data.template: plain does without the tokenizer's template",
    )


def _literal(text: str) -> str:
    """A Jinja expression that writes ``text`` as it is, whatever signs are in it."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
