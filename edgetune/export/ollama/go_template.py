"""A chat template in Go's syntax, as Ollama wants it: found by asking the model's own for texts.

Most templates are pieces of text around each role's content. Those pieces are read off a few
rendered conversations; whether they are all of the template is for the caller to prove.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgetune.errors import InputError

Turns = Sequence[Mapping[str, str]]  # {"role", "content"}
# Contents that no template writes by itself.
_SYSTEM, _USER, _ASSISTANT, _NEXT = (f"edgetune-{n}-probe" for n in ("one", "two", "three", "four"))


@dataclass(frozen=True)
class GoTemplate:
    """Pieces of text around the contents of a conversation.

    Attributes:
        begin: before everything.
        no_system: further, where no message is the system's (some templates write one then).
        around: by role, the text before and after a content; a role that the template refuses
            is absent.
        ask: the text after the last message, where the answer begins.
    """

    begin: str
    no_system: str
    around: Mapping[str, tuple[str, str]]
    ask: str

    def render(self, messages: Turns) -> str:
        """Return the prompt that Ollama makes of a conversation by :meth:`source`.

        Raises:
            InputError: a role that the model's template refuses.
        """
        roles = [message["role"] for message in messages]
        if foreign := set(roles) - set(self.around):
            raise InputError(f"the template has no {', '.join(sorted(foreign))} message")
        text = self.begin + ("" if "system" in roles else self.no_system)
        for message in messages:
            before, behind = self.around[message["role"]]
            text += before + message["content"] + behind
        return text + self.ask

    def source(self) -> str:
        """Return the template's text (https://pkg.go.dev/text/template, Ollama's variables)."""
        head = _literal(self.begin)
        if self.no_system:
            head += "{{ if not .System }}" + _literal(self.no_system) + "{{ end }}"
        branches = [
            f'if eq .Role "{role}" }}}}{_literal(before)}{{{{ .Content }}}}{_literal(behind)}'
            for role, (before, behind) in self.around.items()
        ]
        choice = "{{ " + "{{ else ".join(branches) + "{{ end }}"
        return f"{head}{{{{ range .Messages }}}}{choice}{{{{ end }}}}{_literal(self.ask)}"

    def without_begin(self, text: str) -> GoTemplate | None:
        """Return it without ``text`` in front, for a client that writes that itself.

        ``None`` where it does not begin so.
        """
        if text and self.begin.startswith(text):
            return replace(self, begin=self.begin.removeprefix(text))
        before, behind = self.around.get("system", (text, ""))
        if not text or self.begin or not (self.no_system + before).startswith(text):
            return None
        if not self.no_system.startswith(text) or not before.startswith(text):
            return None
        around = dict(self.around)
        if "system" in around:
            around["system"] = before.removeprefix(text), behind
        return replace(self, no_system=self.no_system.removeprefix(text), around=around)


def derive_go_template(render: Callable[[Turns, bool], str]) -> GoTemplate | None:
    """Read the pieces off a template.

    Args:
        render: returns the text of a conversation by the model's template; with ``True`` up to
            where an answer begins. Raises InputError where the template refuses it.

    Returns:
        the template, not yet proven, or ``None`` where contents are not written one after another.
    """
    user, assistant, following = _turn("user", _USER), _turn("assistant", _ASSISTANT), _NEXT
    try:
        _, behind_user = _split(render([user], False), _USER)
        _, asked = _split(render([user], True), _USER)
        *_, behind_assistant = _split(render([user, assistant], False), _USER, _ASSISTANT)
        chat = render([user, assistant, _turn("user", following)], False)
        head, inner, between, _ = _split(chat, _USER, _ASSISTANT, following)
        before_user = _cut(between, behind_assistant)
        before_assistant, ask = _cut(inner, behind_user), _cut(asked, behind_user)
        begin = _cut_end(head, before_user)
    except (InputError, ValueError):
        return None
    around = {
        "user": (before_user, behind_user),
        "assistant": (before_assistant, behind_assistant),
    }
    try:
        before, behind, _ = _split(render([_turn("system", _SYSTEM), user], False), _SYSTEM, _USER)
        behind = _cut_end(behind, before_user)
    except (InputError, ValueError):
        return GoTemplate(begin, "", around, ask)
    if before.startswith(begin):
        around = {"system": (before.removeprefix(begin), behind), **around}
        return GoTemplate(begin, "", around, ask)
    return GoTemplate("", begin, {"system": (before, behind), **around}, ask)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _split(text: str, *contents: str) -> list[str]:
    """Return the pieces between contents in this order.

    Raises:
        ValueError: one is missing, or occurs twice.
    """
    pieces = []
    for content in contents:
        piece, found, text = text.partition(content)
        if not found or content in text:
            raise ValueError(content)
        pieces.append(piece)
    return [*pieces, text]


def _cut(text: str, start: str) -> str:
    if not text.startswith(start):
        raise ValueError(start)
    return text.removeprefix(start)


def _cut_end(text: str, end: str) -> str:
    if not text.endswith(end):
        raise ValueError(end)
    return text.removesuffix(end)


def _literal(text: str) -> str:
    """Return ``text`` as a template writes it: as it is, or as a Go string where it cannot be.

    Braces would open an action, also together with the brace of the next one; three quotes end a
    value of a Modelfile, and what is not printable is dropped from one. JSON's escapes are Go's.
    """
    printable = all(sign.isprintable() or sign in "\n\t" for sign in text)
    if printable and not any(each in text for each in ("{{", "}}", '"""')) and text[-1:] != "{":
        return text
    escaped = json.dumps(text, ensure_ascii=False)
    return "{{ " + "".join(s if s.isprintable() else _escape(s) for s in escaped) + " }}"


def _escape(sign: str) -> str:
    point = ord(sign)
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
