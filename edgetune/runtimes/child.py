"""Messages between a process and its child: the one protocol of all child processes.

A message is a little-endian uint32 length, a JSON object of that length and, where the object has
``dtype`` and ``shape``, the bytes of one array. Only the standard library is imported before an
array is sent, so that a child that needs no numpy does not load it.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np

READ_BYTES = 1 << 20  # read at most at a time


class Child:
    """A child process that answers messages on its stdin with messages on its stdout.

    Args:
        command: program and arguments.
        stderr: where its stderr goes: a file, or ``subprocess.DEVNULL``.
        env: its environment; ``None`` is this process's.
    """

    def __init__(
        self, command: Sequence[str], stderr: IO[bytes] | int, env: Mapping[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env
        )

    def send(self, head: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            BrokenPipeError: the child has ended.
        """
        assert self.process.stdin is not None
        write_frame(self.process.stdin, head)

    @property
    def output(self) -> int:
        """Descriptor of its stdout, to wait for the first of several messages."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def receive(
        self, seconds: float | None = None
    ) -> tuple[dict[str, Any], np.ndarray | None] | None:
        """Wait for one message; ``None`` when the child has ended.

        Args:
            seconds: to wait at most.

        Raises:
            TimeoutError: no message after ``seconds``.
        """
        assert self.process.stdout is not None
        if seconds is None:
            return read_frame(self.process.stdout)
        stream = _TimedStream(self.process.stdout.fileno(), time.monotonic() + seconds)
        return read_frame(stream)  # type: ignore[arg-type]  # read() is all it calls

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def wait(self) -> int:
        """Wait for its end; return its exit code, -N if signal N ended it."""
        return self.process.wait()

    def stop(self) -> None:
        """Kill the process and close its pipes."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # bytes that the child never read
                continue
        self.process.wait()


class _TimedStream:
    """Reads of a pipe that end at a point in time; never mixed with buffered reads of it."""

    def __init__(self, descriptor: int, until: float) -> None:
        self._descriptor, self._until = descriptor, until

    def read(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count > 0:
            left = max(0.0, self._until - time.monotonic())
            if not select.select([self._descriptor], [], [], left)[0]:
                raise TimeoutError
            part = os.read(self._descriptor, min(count, READ_BYTES))
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def write_frame(
    stream: BinaryIO | IO[bytes], head: Mapping[str, Any], array: np.ndarray | None = None
) -> None:
    """Send one message."""
    if array is not None:
        import numpy as np

        array = np.ascontiguousarray(array)
        head = {**head, "dtype": array.dtype.str, "shape": array.shape}
    raw = json.dumps(head).encode()
    stream.write(struct.pack("<I", len(raw)) + raw)
    if array is not None:
        stream.write(array.data.cast("B"))
    stream.flush()


def read_frame(
    stream: BinaryIO | IO[bytes],
) -> tuple[dict[str, Any], np.ndarray | None] | None:
    """Wait for one message; ``None`` when the other end is gone."""
    size = _read(stream, 4)
    raw = size and _read(stream, struct.unpack("<I", size)[0])
    if not raw:
        return None
    head: dict[str, Any] = json.loads(raw)
    if "dtype" not in head:
        return head, None
    import numpy as np

    array: np.ndarray = np.empty(head["shape"], np.dtype(head["dtype"]))
    body = _read(stream, array.nbytes)
    if body is None:
        return None
    return head, np.frombuffer(body, array.dtype).reshape(array.shape)


def _read(stream: BinaryIO | IO[bytes], count: int) -> bytes | None:
    raw = stream.read(count)
    return raw if len(raw) == count else None
