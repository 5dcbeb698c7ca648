"""Render chat templates, one JSON job a line.

    python template_child.py BYTES_OF_MEMORY CHARACTERS_OF_TEXT CPU_SECONDS

Run by :mod:`edgetune.runtimes.template` as a file of its own, so that it imports Jinja and nothing
else, and can be killed.
"""

from __future__ import annotations

import json
import signal
import sys
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class TooLong(BaseException):
    """The template used up its CPU time."""


class _Generation(Extension):
    """``{% generation %}`` marks an answer for training masks; for the text it is nothing."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 reads a plain class attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def make_environment() -> jinja2.Environment:
    """Return the settings of transformers' ``apply_chat_template``.

    Block tags leave no white space behind, and ``tojson`` keeps non-ASCII letters as they are.
    """
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


def render(environment: jinja2.Environment, job: dict[str, Any], longest: int) -> dict[str, str]:
    """Return ``{"text"}`` or ``{"error"}``."""
    try:
        template = environment.from_string(job["source"])
        text = template.render(
            messages=job["messages"],
            tools=None,
            documents=None,
            add_generation_prompt=job["open"],
            **job["special"],
        )
    except TooLong:
        return {"error": "it runs too long"}
    except MemoryError:
        return {"error": "it needs too much memory"}
    except Exception as error:  # a template can raise whatever Python has
        return {"error": str(error) or type(error).__name__}
    if len(text) > longest:
        return {"error": f"it writes {len(text):,} characters"}
    return {"text": text}


def main() -> None:
    """Answer jobs until the input ends."""
    memory, longest, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

    def stop(number: int, frame: object) -> NoReturn:
        raise TooLong

    signal.signal(signal.SIGPROF, stop)
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    environment = make_environment()
    for line in sys.stdin.buffer:
        # CPU time, not wall time: a busy machine makes no template guilty.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            answer = render(environment, json.loads(line), longest)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
