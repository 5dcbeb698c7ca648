"""Chat templates rendered as transformers renders them, for the runtimes that do not have it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgetune.errors import InputError


class _Generation(Extension):
    """``{% generation %}`` marks an answer for training masks; for the text it is nothing."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 reads a plain class attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def render_template(
    source: str | None, messages: list[dict[str, str]], special: dict[str, str], where: str
) -> str:
    """Return the prompt text, ending where the answer begins.

    Args:
        source: the Jinja template.
        messages: ``{"role", "content"}`` each.
        special: values of ``bos_token``, ``eos_token``, … that templates name.
        where: the file, for errors.

    Raises:
        InputError: there is no template, it is broken, or it refuses the messages.
    """
    if not source:
        raise InputError(
            "the file carries no chat template",
            where=where,
            hint="send it a finished prompt, or export it from a model whose tokenizer has one",
        )
    try:
        template = _environment().from_string(source)
        return template.render(messages=messages, add_generation_prompt=True, **special)
    except jinja2.TemplateError as error:
        raise InputError(f"the chat template fails: {error}", where=where) from error


def _environment() -> jinja2.Environment:
    # The settings of transformers' apply_chat_template: block tags leave no white space behind,
    # and tojson keeps non-ASCII letters as they are.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    return environment


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, **options)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
