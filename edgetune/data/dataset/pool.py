"""Worker processes that make shards; the messages are those of every child process."""

from __future__ import annotations

import errno
import json
import os
import select
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgetune.data.dataset.encoding import Encoding
from edgetune.data.dataset.shard import Dropped, ShardRows
from edgetune.data.dataset.shard_writer import write_shard
from edgetune.data.rows import Message, Row
from edgetune.errors import EdgetuneError, InputError
from edgetune.recipe import DataSection
from edgetune.runtimes.child import Child, read_frame, write_frame

MOST_PROCESSES = 16


def count_processes() -> int:
    """Return how many shards are made at once: one for each core this process may use."""
    return min(MOST_PROCESSES, len(os.sched_getaffinity(0)))


class Pool:
    """Processes that each make one shard at a time.

    Args:
        section: of the recipe.
        encoding: what rows are encoded with, or none.
        processes: how many.
        errors: file of their stderr, open to be read too.
    """

    def __init__(
        self, section: DataSection, encoding: Encoding | None, processes: int, errors: IO[bytes]
    ) -> None:
        self._errors = errors
        command = [sys.executable, "-m", "edgetune.data.dataset.pool"]
        alone = {
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "1",
            "RAYON_NUM_THREADS": "1",
        }
        environment = {**os.environ, **alone}
        self._children = [Child(command, errors, environment) for _ in range(processes)]
        head = {
            "section": section.model_dump(mode="json"),
            "encoding": encoding.to_json() if encoding else None,
        }
        for child in self._children:
            child.send(head)
        self._idle = list(self._children)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for child in self._children:
            child.stop()

    def submit(self, folder: Path, shard: ShardRows) -> None:
        """Give a shard to a process, as soon as one is free.

        Raises:
            InputError: what a process refused in an earlier shard.
        """
        if not self._idle:
            self._wait()
        child = self._idle.pop()
        try:
            child.send({"folder": str(folder), **_to_json(shard)})
        except BrokenPipeError:
            self._receive(child)

    def finish(self) -> None:
        """Wait for all shards that were submitted."""
        while len(self._idle) < len(self._children):
            self._wait()

    def _wait(self) -> None:
        busy = [child for child in self._children if child not in self._idle]
        pipes = {child.output: child for child in busy}
        for pipe in select.select(list(pipes), [], [])[0]:
            self._receive(pipes[pipe])
            self._idle.append(pipes[pipe])

    def _receive(self, child: Child) -> None:
        """Take a process's answer: the shard is written, or why not."""
        answer = child.receive()
        if answer is None:
            self._errors.seek(0)
            tail = self._errors.read()[-2000:].decode(errors="replace")
            code = child.wait()
            if code in (-9, 137):
                raise MemoryError(f"a process of prepare was killed: {tail}")
            raise RuntimeError(f"a process of prepare ended with exit code {code}:\n{tail}")
        head = answer[0]
        if "what" in head:
            raise InputError(head["what"], where=head["where"], hint=head["hint"])
        if "errno" in head:
            raise OSError(head["errno"], os.strerror(head["errno"]), head["file"])


def _to_json(shard: ShardRows) -> dict[str, Any]:
    rows = [
        [_turns(row.messages), row.text, row.where, row.tools, _turns(row.rejected), row.label]
        for row in shard.rows
    ]
    # A record may hold what JSON does not, such as a date of a Parquet file.
    dropped = [json.loads(one.line()) for one in shard.dropped]
    return {**vars(shard), "rows": rows, "dropped": dropped}


def _turns(messages: Sequence[Message]) -> list[list[Any]]:
    return [[one.role, one.content, one.more, one.trains] for one in messages]


def _from_json(head: dict[str, Any]) -> ShardRows:
    rows = [
        Row(_messages(turns), text, where, tools, _messages(rejected), label)
        for turns, text, where, tools, rejected, label in head["rows"]
    ]
    dropped = [Dropped(**one) for one in head["dropped"]]
    return ShardRows(rows, dropped, head["keys"], head["examples"], head["part"], head["groups"])


def _messages(turns: Sequence[Sequence[Any]]) -> tuple[Message, ...]:
    return tuple(Message(*turn) for turn in turns)


def _answer_all() -> Iterator[None]:
    """Make shards until the parent closes the pipe or is gone."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the messages
    first = read_frame(source)
    if first is None:
        return
    section = DataSection.model_validate(first[0]["section"])
    encoding = first[0]["encoding"]
    encoder = Encoding(**encoding).make_encoder(section) if encoding else None
    while (frame := read_frame(source)) is not None:
        head = frame[0]
        reply: dict[str, Any] = {}
        try:
            write_shard(Path(head["folder"]), _from_json(head), section, encoder)
        except EdgetuneError as error:
            reply = {"what": error.what, "where": error.where, "hint": error.hint}
        except OSError as error:
            reply = {"errno": error.errno or errno.EIO, "file": str(error.filename or "")}
        write_frame(sink, reply)
        yield


if __name__ == "__main__":
    for _ in _answer_all():
        pass
