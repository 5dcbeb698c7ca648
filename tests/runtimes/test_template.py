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
