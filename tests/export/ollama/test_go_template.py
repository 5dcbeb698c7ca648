"""Go templates: pieces read off a chat template, written so that Go's parser gives them back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from edgetune.errors import InputError
from edgetune.export.ollama.go_template import GoTemplate, derive_go_template
from edgetune.export.ollama.modelfile import quote_value, read_value
from edgetune.runtimes.template import render_template
from tests.conftest import CHATML

PLAIN = (
    "{{ '<s>' }}{% for m in messages %}{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}</s>{% endif %}{{ '\\n' }}{% endfor %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}[sys]Be kind.[/sys]{% endif %}"
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('none') }}{% endif %}"
    "({{ m['role'] }}: {{ m['content'] }}){% endfor %}"
    "{% if add_generation_prompt %}(assistant: {% endif %}"
)
# Braces and quotes of Go's and the Modelfile's own, an unprintable sign, a brace before an action.
HOSTILE = (
    "{% for m in messages %}{{ '{{ .Content }} \"\"\" \\u200d' }}{{ m['role'] }}{{ ' {' }}"
    "{{ m['content'] }}{{ '}' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '}}-' }}{% endif %}"
)
FOLDED = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST]"
    "{% if loop.index0 == 1 and messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
    "{% endif %}{{ m['content'] }}[/INST]{% elif m['role'] == 'assistant' %}{{ m['content'] }}"
    "{% endif %}{% endfor %}"
)
CHATS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": 'a "quoted" {{ thing }}'}],
    [
        {"role": "system", "content": "Short."},
        {"role": "user", "content": "  one\n\n"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "três 🙂"},
    ],
)


def derive(source: str) -> GoTemplate | None:
    def render(turns: Sequence[Mapping[str, str]], open_answer: bool) -> str:
        return render_template(source, [dict(t) for t in turns], {}, "here", open_answer)

    return derive_go_template(render)


def run_go(source: str, messages: list[dict[str, str]]) -> str:
    """Execute the few actions of Go's text/template that are used, from the text alone."""
    parts = re.split(r'\{\{ ((?:"(?:\\.|[^"\\])*"|[^"{}])*) \}\}', source)
    tokens = [("text" if n % 2 == 0 else "act", part) for n, part in enumerate(parts)]
    assert not any("{{" in part for kind, part in tokens if kind == "text"), source
    system = "".join(m["content"] for m in messages if m["role"] == "system")

    def block(at: int, dot: Mapping[str, str], live: bool) -> tuple[str, int]:
        """Run until an end or else on this level; return the text and where that is."""
        out = ""
        while at < len(tokens):
            kind, word = tokens[at]
            if kind == "text":
                out, at = out + (word if live else ""), at + 1
            elif word == "end" or word.startswith("else "):
                return out, at
            elif word == "range .Messages":
                for message in messages:
                    text, stop = block(at + 1, message, live)
                    out += text
                at = stop + 1
            elif word.startswith("if "):
                done = False
                while tokens[at][1] != "end":
                    condition = tokens[at][1].removeprefix("else ").removeprefix("if ")
                    holds = live and not done and test(condition, dot)
                    text, at = block(at + 1, dot, holds)
                    out, done = out + (text if holds else ""), done or holds
                at += 1
            else:
                text = dot["content"] if word == ".Content" else json.loads(word)
                out, at = out + (text if live else ""), at + 1
        return out, at

    def test(condition: str, dot: Mapping[str, str]) -> bool:
        if condition == "not .System":
            return not system
        role = re.fullmatch(r'eq \.Role "(\w+)"', condition)
        assert role, condition
        return dot["role"] == role[1]

    return block(0, {}, True)[0]


@pytest.mark.parametrize("source", [CHATML, PLAIN, DEFAULT_SYSTEM, HOSTILE])
def test_go_template_renders_the_text_of_jinja(source: str) -> None:
    template = derive(source)
    assert template is not None
    for chat in CHATS:
        wanted = render_template(source, chat, {}, "here", True)
        assert template.render(chat) == wanted
        assert run_go(template.source(), chat) == wanted


def test_chatml_reads_as_a_person_would_write_it() -> None:
    template = derive(CHATML)
    assert template is not None
    assert template.source() == (
        '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}'
        '<|im_end|>\n{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        "{{ end }}{{ end }}<|im_start|>assistant\n"
    )


def test_a_value_of_a_modelfile_holds_any_template() -> None:
    template: Any = derive(HOSTILE)
    source = template.source()
    assert '"""' not in source and "\u200d" not in source
    assert "{{{" not in source
    value = quote_value(source)
    assert value is not None and read_value(value + "\n") == source


def test_a_template_without_a_system_message() -> None:
    template = derive(NO_SYSTEM)
    assert template is not None
    assert set(template.around) == {"user", "assistant"}
    assert template.render(CHATS[0]) == render_template(NO_SYSTEM, CHATS[0], {}, "here", True)
    with pytest.raises(InputError, match="no system message"):
        template.render(CHATS[1])


def test_the_begin_token_can_be_left_to_the_client() -> None:
    template = derive(PLAIN)
    assert template is not None and template.begin == "<s>"
    shorter = template.without_begin("<s>")
    assert shorter is not None
    assert "<s>" + shorter.render(CHATS[1]) == template.render(CHATS[1])
    assert template.without_begin("<x>") is None
    default = derive("{{ '<s>' }}" + DEFAULT_SYSTEM)
    assert default is not None
    shorter = default.without_begin("<s>")
    assert shorter is not None
    for chat in CHATS:
        assert "<s>" + shorter.render(chat) == default.render(chat)


def test_templates_that_are_no_concatenation_are_not_derived() -> None:
    assert derive("{{ messages | length }}") is None
    assert derive("{{ raise_exception('never') }}") is None
    folded = derive(FOLDED)  # the system message stands inside the user's
    assert folded is None or "system" not in folded.around
