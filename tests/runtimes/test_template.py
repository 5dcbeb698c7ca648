"""Templates render as transformers renders them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetune.errors import InputError
from edgetune.runtimes.template import render_template

MESSAGES = [{"role": "user", "content": "héllo"}, {"role": "assistant", "content": "<b>"}]
TEMPLATE = """{{ bos_token }}{% for message in messages %}
    {% if loop.index > 5 %}{% break %}{% endif %}
    {% if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}
    {% else %}
[{{ message | tojson }}]
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}>{% endif %}"""


def test_equals_transformers(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.bos_token = "<|endoftext|>"
    wanted = tokenizer.apply_chat_template(
        MESSAGES, chat_template=TEMPLATE, tokenize=False, add_generation_prompt=True
    )
    found = render_template(TEMPLATE, MESSAGES, {"bos_token": "<|endoftext|>"}, "here")
    assert found == wanted
    assert "héllo" in found and "<b>" in found


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (None, "no chat template"),
        ("{% if %}", "fails"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails"),
    ],
)
def test_refuses(template: str | None, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as error:
        render_template(template, MESSAGES, {}, "model.gguf")
    assert "model.gguf" in str(error.value)


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "too long",
        ),
        ("{{ 'a' * 9000000000 }}", "memory"),
        ("{{ '%9000000000d' | format(1) }}", "memory|fails"),
        ("{{ 'a' * 90000000 }}", "characters"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "range"),
        ("{{ messages.__class__.__base__.__subclasses__() }}", "unsafe|access"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe|access"),
        ("{% include '/etc/passwd' %}", "loader"),
        ("{{ messages.append(1) }}", "immutable|unsafe|safely"),
    ],
)
def test_a_hostile_template_ends_soon(template: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        render_template(template, MESSAGES, {}, "model.gguf")
    assert render_template("{{ messages[0].role }}", MESSAGES, {}, "x") == "user", "not mended"
