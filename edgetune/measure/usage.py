"""What a part of a run takes of the machine: time, and peak memory of all its processes."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

import psutil

from edgetune.measure.vram import VramMeter

INTERVAL_S = 0.1
#: Between looks for child processes: listing all processes takes some milliseconds.
_CHILDREN_S = 0.5
EVENT = "usage"  # of the log


@dataclass(frozen=True)
class Usage:
    """What was taken.

    Attributes:
        seconds: from start to end.
        ram_bytes: most resident memory of this process and its children together, in samples.
        gpu_bytes: most GPU memory of this process; 0 where none was used.
    """

    seconds: float
    ram_bytes: int
    gpu_bytes: int


class UsageMeter:
    """Measures the ``with`` block's time and the peak memory of this process and its children.

    Attributes:
        usage: set when the block ends.
    """

    def __init__(self) -> None:
        self.usage = Usage(0.0, 0, 0)
        self._process = psutil.Process()
        self._children: list[psutil.Process] = []
        self._peak = 0
        self._began = self._listed = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._vram = VramMeter()

    def __enter__(self) -> UsageMeter:
        self._vram.__enter__()
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        self._sample()
        self._vram.__exit__(kind, error, where)
        self.usage = Usage(round(time.monotonic() - self._began, 3), self._peak, self._vram.peak)

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        now = time.monotonic()
        held = 0
        with suppress(psutil.Error):
            if now - self._listed > _CHILDREN_S:
                self._children, self._listed = self._process.children(recursive=True), now
            held = self._process.memory_info().rss
        for child in self._children:
            with suppress(psutil.Error):
                held += child.memory_info().rss
        self._peak = max(self._peak, held)
