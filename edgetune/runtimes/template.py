"""Chat templates rendered as transformers renders them, by a child process that may not run wild.

A template comes with a model, from anyone. Jinja's sandbox keeps it from Python's insides; it does
not keep it from looping for a day or filling the memory. So one child process renders what it is
sent, under a limit of memory, and is killed when it takes too long. It compiles a template once.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgetune.errors import InputError
from edgetune.runtimes.child import Child

CPU_SECONDS = 2.0  # a prompt takes well under a millisecond
WALL_SECONDS = 120.0  # for a child that cannot even be interrupted, on a machine that is busy
MEMORY_BYTES = 512 << 20
TEXT_CHARACTERS = 8_000_000
JOB_CONVERSATIONS = 256  # sent together: a round trip costs as much as rendering a short prompt
JOB_CHARACTERS = 2_000_000  # the child holds a job whole


def render_template(
    source: str | None,
    messages: Sequence[Mapping[str, Any]],
    special: Mapping[str, str],
    where: str,
    open_answer: bool = True,
    clock: str | None = None,
) -> str:
    """Return the text of a conversation.

    Args:
        source: the Jinja template.
        messages: ``{"role", "content"}`` each.
        special: values of ``bos_token``, ``eos_token``, … that templates name.
        where: the file, for errors.
        open_answer: end where the answer begins.
        clock: the time that ``strftime_now`` prints (ISO 8601, local); ``None`` is now.

    Raises:
        InputError: there is no template, it is broken, it refuses the messages, or it takes more
            time or memory than a template may.
    """
    conversation = {"messages": messages, "add_generation_prompt": open_answer}
    found = render_conversations(source, [conversation], special, [where], clock)[0]
    if isinstance(found, InputError):
        raise found
    return found


def render_conversations(
    source: str | None,
    conversations: Sequence[Mapping[str, Any]],
    special: Mapping[str, str],
    where: Sequence[str],
    clock: str | None = None,
) -> list[str | InputError]:
    """Return the text of each conversation, or why there is none.

    Args:
        source: the Jinja template.
        conversations: the variables of each that the template sees: ``messages``,
            ``add_generation_prompt``, ``tools``.
        special: as in :func:`render_template`.
        where: what each conversation is called in its error.
        clock: as in :func:`render_template`.

    Raises:
        InputError: there is no template.
    """
    if not source:
        raise InputError(
            "the file carries no chat template",
            where=where[0] if where else "",
            hint="send it a finished prompt, or export it from a model whose tokenizer has one",
        )
    job = {"source": source, "special": dict(special), "clock": clock}
    found: list[str | InputError] = []
    for part in _parts(conversations):
        for answer in _renderer.ask(job, part):
            place = where[len(found)]
            if "text" in answer:
                found.append(str(answer["text"]))
            else:
                found.append(InputError(f"the chat template fails: {answer['error']}", where=place))
    return found


def _parts(conversations: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Cut a list into jobs that the child can hold."""
    part: list[Mapping[str, Any]] = []
    held = 0
    for conversation in conversations:
        size = sum(len(str(turn.get("content"))) for turn in conversation["messages"])
        if part and (len(part) == JOB_CONVERSATIONS or held + size > JOB_CHARACTERS):
            yield part
            part, held = [], 0
        part.append(conversation)
        held += size
    if part:
        yield part


class _Renderer:
    """The process that renders; started when first asked, and again after it was killed."""

    def __init__(self) -> None:
        self._child: Child | None = None

    def ask(
        self, job: Mapping[str, Any], conversations: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return ``{"text"}`` or ``{"error"}`` for each conversation.

        One that kills the child gets an error; those after it are rendered again.
        """
        answers: list[dict[str, Any]] = []
        while len(answers) < len(conversations):
            answers += self._ask({**job, "conversations": conversations[len(answers) :]})
        return answers

    def _ask(self, job: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Send one job and return its answers, up to the first that did not come."""
        child = self._child
        if child is None or not child.running:
            child = self._child = self._start()
        try:
            child.send(job)
        except BrokenPipeError:
            self.stop()
            return [{"error": "its process ended"}]
        answers: list[dict[str, Any]] = []
        while len(answers) < len(job["conversations"]):
            fault = f"it needs more than {MEMORY_BYTES >> 20} MB of memory"
            try:
                frame = child.receive(WALL_SECONDS)
            except TimeoutError:
                frame, fault = None, f"it runs longer than {WALL_SECONDS:.0f} seconds"
            if frame is None:
                self.stop()
                return [*answers, {"error": fault}]
            answers.append(frame[0])
        return answers

    def _start(self) -> Child:
        from edgetune.runtimes import template_child

        limits = [str(MEMORY_BYTES), str(TEXT_CHARACTERS), str(CPU_SECONDS)]
        return Child([sys.executable, "-I", template_child.__file__, *limits], subprocess.DEVNULL)

    def stop(self) -> None:
        """Kill the process, if there is one."""
        if self._child is not None:
            self._child.stop()
            self._child = None


_renderer = _Renderer()
atexit.register(_renderer.stop)
