"""Chats rendered by the template in a file, as lm-eval's ``hf`` model renders them."""

from __future__ import annotations

from edgetune.errors import InputError
from edgetune.runtimes import Runtime

#: Ends a message that the model is to go on with, to be found in the rendered text. Letters alone:
#: no template treats them specially.
_MARK = "zQjxEndOfPrefillxjQz"


def render_chat(runtime: Runtime, messages: list[dict[str, str]], open_answer: bool) -> str:
    """Return the prompt text of a chat.

    A template that refuses a system message is given the chat without it.

    Args:
        runtime: the model.
        messages: ``{"role", "content"}`` each.
        open_answer: end where an answer begins; else the last message is left open, to be gone on
            with.

    Raises:
        InputError: no template, or it refuses the messages.
    """
    given = [dict(one) for one in messages]
    if not open_answer:
        given[-1]["content"] = f"{given[-1]['content']}{_MARK}"
    try:
        text = runtime.render(given)
    except InputError:
        plain = [one for one in given if one["role"] != "system"]
        if len(plain) == len(given):
            raise
        text = runtime.render(plain)
    if open_answer:
        return text
    before, mark, _ = text.rpartition(_MARK)
    if not mark:
        raise InputError("the chat template leaves out the message that is to be gone on with")
    return before
