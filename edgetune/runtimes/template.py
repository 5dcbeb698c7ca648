"""Chat templates rendered as transformers renders them, by a child process that may not run wild.

A template comes with a model, from anyone. Jinja's sandbox keeps it from Python's insides; it does
not keep it from looping for a day or filling the memory. So one child process renders what it is
sent, under a limit of memory, and is killed when it takes too long.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from edgetune.errors import InputError

CPU_SECONDS = 2.0  # a prompt takes well under a millisecond
WALL_SECONDS = 120.0  # for a child that cannot even be interrupted, on a machine that is busy
MEMORY_BYTES = 512 << 20
TEXT_CHARACTERS = 8_000_000


def render_template(
    source: str | None,
    messages: Sequence[Mapping[str, Any]],
    special: Mapping[str, str],
    where: str,
    open_answer: bool = True,
) -> str:
    """Return the text of a conversation.

    Args:
        source: the Jinja template.
        messages: ``{"role", "content"}`` each.
        special: values of ``bos_token``, ``eos_token``, … that templates name.
        where: the file, for errors.
        open_answer: end where the answer begins.

    Raises:
        InputError: there is no template, it is broken, it refuses the messages, or it takes more
            time or memory than a template may.
    """
    if not source:
        raise InputError(
            "the file carries no chat template",
            where=where,
            hint="send it a finished prompt, or export it from a model whose tokenizer has one",
        )
    job = {"source": source, "messages": messages, "special": special, "open": open_answer}
    answer = _child.ask(job)
    if "text" not in answer:
        raise InputError(f"the chat template fails: {answer['error']}", where=where)
    return str(answer["text"])


class _Child:
    """The process that renders; started when first asked, and again after it was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Send one job and return its answer: ``{"text"}`` or ``{"error"}``."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            self.stop()
            return {"error": "its process ended"}
        ready, _, _ = select.select([process.stdout], [], [], WALL_SECONDS)
        line = process.stdout.readline() if ready else b""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.stop()
        if ready:
            return {"error": f"it needs more than {MEMORY_BYTES >> 20} MB of memory"}
        return {"error": f"it runs longer than {WALL_SECONDS:.0f} seconds"}

    def _start(self) -> subprocess.Popen[bytes]:
        from edgetune.runtimes import template_child

        limits = [str(MEMORY_BYTES), str(TEXT_CHARACTERS), str(CPU_SECONDS)]
        command = [sys.executable, "-I", template_child.__file__, *limits]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            self._process.wait()
            self._process = None


_child = _Child()
atexit.register(_child.stop)
