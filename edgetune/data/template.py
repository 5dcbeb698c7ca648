"""Chat templates: the tokenizer's own, or a plain one of ours that travels with the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from edgetune.data.rows import Message
from edgetune.errors import InputError
from edgetune.runtimes.template import render_conversations

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
) -> str:
    """Return the conversation's text; with ``open_answer``, up to where an answer begins.

    Raises:
        InputError: the template refuses these turns.
    """
    found = render_many(tokenizer, [messages], [where], open_answer=open_answer, clock=clock)[0]
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
) -> list[str | InputError]:
    """Return each conversation's text, or the error of one that the template refuses.

    Args:
        tokenizer: carries the template and the special tokens it names.
        conversations: turns.
        where: what each conversation is called in its error.
        open_answer: end where an answer begins.
        clock: the time that the template prints; now, where there is none.
    """
    jobs = [
        {
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
            "add_generation_prompt": open_answer,
        }
        for turns in conversations
    ]
    special = tokenizer.special_tokens_map
    found = render_conversations(tokenizer.chat_template, jobs, special, where, clock)
    return [_explain(one) if isinstance(one, InputError) else one for one in found]


def _explain(error: InputError) -> InputError:
    return InputError(
        f"the chat template refuses this conversation: {error.what}",
        where=error.where,
        hint="data.template: plain does without the tokenizer's template",
    )


def _literal(text: str) -> str:
    """A Jinja expression that writes ``text`` as it is, whatever signs are in it."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
