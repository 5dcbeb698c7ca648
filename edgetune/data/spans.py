"""Where a conversation's answers lie in its rendered text.

What a template writes around the contents depends, as a rule, on the roles alone. So it is found
once for a sequence of roles, by rendering contents that no template changes, and a text is taken
apart by it: one rendering a row, however many turns it has. The parts must make up the whole text;
where they do not, the caller has to look closer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from edgetune.data.rows import Message
from edgetune.errors import InputError

MOST_KNOWN = 4096  # sequences of roles that are remembered
_PROBE = "edgetune-probe-{}-x"

#: What a template writes before each turn's content, and behind the last one's.
Around = tuple[str, ...]
Span = tuple[int, int]
#: Conversations and what each is called in errors, to texts or errors.
Render = Callable[[Sequence[Sequence[Message]], Sequence[str]], list[str | InputError]]


def find_answers(
    render: Render, text: str, messages: Sequence[Message], where: str, end_text: str,
    known: dict[tuple[str, ...], Around | None],
) -> list[Span]:  # fmt: skip
    """Return where in ``text`` each assistant turn and its end token lie.

    A template may rewrite earlier turns (drop their thoughts, say); what it does not show as it was
    said is not trained.

    Args:
        render: gives the texts of conversations up to where an answer begins.
        text: the rendered messages.
        messages: all turns before the last answer.
        where: the row, for errors.
        end_text: the token that ends an answer.
        known: what was found around contents before, by roles; added to.
    """
    if not any(message.role == "assistant" and message.trains for message in messages):
        return []
    around = _find_around(render, tuple(message.role for message in messages), known)
    contents = [message.content for message in messages]
    found = find_contents(text, contents, around) if around else None
    if found is None:
        found = _search_answers(render, text, messages, where)
    return [
        (span[0], span[1] + len(end_text) * text.startswith(end_text, span[1]))
        for message, span in zip(messages, found, strict=True)
        if span is not None and message.role == "assistant" and message.trains
    ]


def _find_around(
    render: Render, roles: tuple[str, ...], known: dict[tuple[str, ...], Around | None]
) -> Around | None:
    """Return what the template writes around contents in turns of these roles."""
    if roles not in known:
        if len(known) >= MOST_KNOWN:
            known.clear()
        contents = probe_contents(len(roles))
        turns = [Message(role, text) for role, text in zip(roles, contents, strict=True)]
        text = render([turns], ["the chat template"])[0]
        known[roles] = cut_probes(text, len(roles)) if isinstance(text, str) else None
    return known[roles]


def _search_answers(
    render: Render, text: str, messages: Sequence[Message], where: str
) -> list[Span | None]:
    """Find answers by rendering what stands before each: for templates whose text around a content
    depends on more than roles."""
    at = [number for number, message in enumerate(messages) if message.role == "assistant"]
    before = render([messages[:number] for number in at], [where] * len(at))
    spans: list[Span | None] = [None] * len(messages)
    for number, head in zip(at, before, strict=True):
        content = messages[number].content
        if isinstance(head, str) and text.startswith(head):
            start = text.find(content, len(head))
            spans[number] = (start, start + len(content)) if start >= 0 else None
    return spans


def probe_contents(count: int) -> list[str]:
    """Return contents to render instead of a conversation's."""
    return [_PROBE.format(number) for number in range(count)]


def cut_probes(text: str, count: int) -> Around | None:
    """Cut the rendering of :func:`probe_contents` at them; ``None`` if they are not all there,
    each once and in order."""
    around, at = [], 0
    for probe in probe_contents(count):
        found = text.find(probe, at)
        if found < 0 or text.count(probe) != 1:
            return None
        around.append(text[at:found])
        at = found + len(probe)
    return (*around, text[at:])


def find_contents(text: str, contents: Sequence[str], around: Around) -> list[Span | None] | None:
    """Return where each content lies in ``text``; ``None`` in its place if it was rewritten.

    White space at the ends of a content may be gone. ``None`` for all if the parts do not make up
    the text.
    """
    spans: list[Span | None] = []
    at = 0
    for number, content in enumerate(contents):
        before, after = around[number], around[number + 1]
        if not text.startswith(before, at):
            return None
        at += len(before)
        last = number == len(contents) - 1
        span = None
        for said in (content, content.strip(), content.rstrip(), content.lstrip()):
            end = at + len(said)
            follows = text[end:] == after if last else text.startswith(after, end)
            if follows and text.startswith(said, at):
                span = (at, end)
                break
        if span is None:  # rewritten: it ends where the template goes on
            end = len(text) - len(after) if last else text.find(after, at) if after else -1
            if end < at:
                return None
        spans.append(span)
        at = end
    return spans if text[at:] == around[-1] else None


def mark_spans(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, list[Span]]],
    where: Sequence[str],
) -> list[tuple[list[int], list[int]] | InputError]:  # fmt: skip
    """Tokenize texts and mark the tokens that begin inside a span.

    Args:
        tokenizer: a fast one, which gives offsets.
        texts: each with its spans, in characters.
        where: the file and line of each text, for errors.

    Returns:
        For each text its ids and, for each id, 1 if it begins inside a span, else 0; an error for
        each where the tokenizer gives no offsets.
    """
    if not tokenizer.is_fast:
        return [
            InputError(
                "earlier answers cannot be found: this tokenizer gives no offsets",
                where=place,
                hint="use the model's tokenizer.json, or rows of one answer",
            )
            for place in where
        ]
    coded = tokenizer(
        [text for text, _ in texts], add_special_tokens=False,
        return_attention_mask=False, return_offsets_mapping=True,
    )  # fmt: skip
    marked: list[tuple[list[int], list[int]] | InputError] = []
    for (_, spans), ids, offsets in zip(texts, coded.input_ids, coded.offset_mapping, strict=True):
        firsts = np.array([first for first, _ in offsets])
        inside = np.zeros(len(ids), bool)
        for start, end in spans:
            inside |= (start <= firsts) & (firsts < end)
        marked.append((ids, inside.tolist()))
    return marked
