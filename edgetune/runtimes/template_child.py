"""Render chat templates: one message per job, and one message back per conversation.

    python template_child.py BYTES_OF_MEMORY CHARACTERS_OF_TEXT CPU_SECONDS

Run by :mod:`edgetune.runtimes.template` as a file of its own, so that it imports Jinja and nothing
else, and can be killed.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_COMPILED = 16  # templates kept


class TooLong(BaseException):
    """The template used up its CPU time."""


class _Generation(Extension):
    """``{% generation %}`` marks an answer for training masks; for the text it is nothing."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 reads a plain class attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Renderer:
    """Compiles each template once, with the settings of transformers' ``apply_chat_template``.

    Block tags leave no white space, and ``tojson`` keeps non-ASCII letters as they are.
    """

    def __init__(self, longest: int) -> None:
        self.clock: str | None = None  # what strftime_now prints, ISO 8601; now where None
        self._longest = longest
        self._compiled: dict[str, jinja2.Template] = {}
        self._environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        self._environment.filters["tojson"] = _to_json
        self._environment.globals["raise_exception"] = _refuse
        self._environment.globals["strftime_now"] = self._print_time

    def render(
        self, source: str, special: dict[str, Any], conversation: dict[str, Any]
    ) -> dict[str, str]:
        """Return ``{"text"}`` or ``{"error"}``."""
        try:
            values = {"tools": None, "documents": None, **special, **conversation}
            text = self._compile(source).render(values)
        except TooLong:
            return {"error": "it runs too long"}
        except MemoryError:
            return {"error": "it needs too much memory"}
        except Exception as error:  # a template can raise whatever Python has
            return {"error": str(error) or type(error).__name__}
        if len(text) > self._longest:
            return {"error": f"it writes {len(text):,} characters"}
        return {"text": text}

    def _compile(self, source: str) -> jinja2.Template:
        if source not in self._compiled:
            if len(self._compiled) >= MOST_COMPILED:
                self._compiled.clear()
            self._compiled[source] = self._environment.from_string(source)
        return self._compiled[source]

    def _print_time(self, pattern: str) -> str:
        time = datetime.fromisoformat(self.clock) if self.clock else datetime.now()
        return time.strftime(pattern)


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, **options)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _load_protocol() -> Any:
    """Return the module ``child.py`` beside this file, without importing its package."""
    spec = importlib.util.spec_from_file_location("child", Path(__file__).with_name("child.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Answer jobs until the input ends."""
    memory, longest, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

    def stop(number: int, frame: object) -> NoReturn:
        raise TooLong

    signal.signal(signal.SIGPROF, stop)
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    renderer = Renderer(longest)
    protocol = _load_protocol()
    while frame := protocol.read_frame(sys.stdin.buffer):
        job = frame[0]
        renderer.clock = job["clock"]
        for conversation in job["conversations"]:
            # CPU time, not wall time: a busy machine makes no template guilty.
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                answer = renderer.render(job["source"], job["special"], conversation)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            # At once: the first conversation without an answer is the one that killed this process.
            protocol.write_frame(sys.stdout.buffer, answer)


if __name__ == "__main__":
    main()
