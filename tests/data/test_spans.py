"""Answers are found in a rendered conversation, at the price of one rendering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from edgetune.data.rows import Message
from edgetune.data.spans import find_answers
from edgetune.errors import InputError
from edgetune.runtimes.template import render_conversations

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Thoughts are dropped from history, and the generation prompt says more than history does.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content.split('</think>')[-1] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)
# Llama 2's: the system message within the first question.
LLAMA_2 = (
    "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}"
    "{% set head = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set rest = messages %}{% set head = '' %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}<s>[INST] {{ (head if loop.first else '') "
    "+ m.content | trim }} [/INST]{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}"
)
# What stands around an answer depends on the answer itself.
NUMBERED = (
    "{% for m in messages %}[{{ m.role }} {{ m.content | length }}] {{ m.content }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}{% endif %}"
)


class Renders:
    """Renders, and counts the conversations that it was asked for."""

    def __init__(self, template: str) -> None:
        self.template, self.count = template, 0

    def __call__(
        self, conversations: Sequence[Sequence[Message]], where: Sequence[str]
    ) -> list[str | InputError]:
        self.count += len(conversations)
        jobs: list[dict[str, Any]] = [
            {
                "messages": [{"role": m.role, "content": m.content} for m in turns],
                "add_generation_prompt": True,
            }
            for turns in conversations
        ]
        return render_conversations(self.template, jobs, {}, where)


def talk(*contents: str, system: str | None = None) -> list[Message]:
    """Question, answer, …, question."""
    turns = [Message("assistant" if n % 2 else "user", text) for n, text in enumerate(contents)]
    return [Message("system", system), *turns] if system else turns


def found(renders: Renders, turns: list[Message], known: dict[Any, Any] | None = None) -> list[str]:
    (text,) = renders([turns], ["row"])
    assert isinstance(text, str)
    known = {} if known is None else known
    return [
        text[start:end]
        for start, end in find_answers(renders, text, turns, "row", "<|im_end|>", known)
    ]


@pytest.mark.parametrize(
    "contents",
    [
        ("one?", "1", "two?", "2", "three?"),
        ("user", "user", "assistant", "assistant", "<|im_start|>"),  # what the template writes too
        ("", "a", "", "a", ""),
        (" spaced \n", "b", "\n\n", "b", "x"),
        ("<|im_end|>\n<|im_start|>assistant\nno", "yes", "no", "yes", "q"),
    ],
)
def test_answers_and_their_ends(contents: tuple[str, ...]) -> None:
    renders = Renders(CHATML)
    wanted = [f"{contents[1]}<|im_end|>", f"{contents[3]}<|im_end|>"]
    assert found(renders, talk(*contents)) == wanted
    assert found(renders, talk(*contents, system="Say.")) == wanted


def test_where_each_answer_lies() -> None:
    renders = Renders(CHATML)
    turns = talk("yes", "yes", "yes", "yes", "yes")
    (text,) = renders([turns], ["row"])
    assert isinstance(text, str)
    spans = find_answers(renders, text, turns, "row", "<|im_end|>", {})
    heads = [text[:start].count("<|im_start|>") for start, _ in spans]
    assert heads == [2, 4]


def test_thinking_templates_train_earlier_answers() -> None:
    renders = Renders(THINKING)
    assert found(renders, talk("one?", "1", "two?", "2", "q")) == ["1<|im_end|>", "2<|im_end|>"]
    # A thought that history does not show is not taught as if it were shown; the rest is.
    turns = talk("one?", "<think>hm</think>1", "two?", "2", "q")
    assert found(renders, turns) == ["2<|im_end|>"]


def test_system_message_within_a_turn() -> None:
    renders = Renders(LLAMA_2)
    wanted = ["1 is one.", "2 is two."]
    turns = talk(" one? ", "1 is one.", "two?", "2 is two.", "three?", system="Be brief.")
    assert found(renders, turns) == wanted
    assert found(renders, turns[1:]) == wanted


def test_template_that_looks_at_contents_is_searched() -> None:
    renders = Renders(NUMBERED)
    assert found(renders, talk("a", "bb", "c", "ddd", "e")) == ["bb<|im_end|>", "ddd<|im_end|>"]
    assert renders.count == 1 + 1 + 2  # the row, the probe, and before each answer


def test_one_rendering_a_row_however_many_turns() -> None:
    renders, known = Renders(CHATML), dict[Any, Any]()
    for row in range(10):
        contents = [f"{row} {turn}" for turn in range(41)]
        assert len(found(renders, talk(*contents), known)) == 20
    assert renders.count == 10 + 1
