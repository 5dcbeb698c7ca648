"""Who works on a trial: a process of a machine, and whether it still lives."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

#: Seconds between two signs of life, and without one after which another machine's is given up.
BEAT_SECONDS = 60.0
STALE_SECONDS = 900.0


def describe_process() -> dict[str, Any]:
    """Return who this process is, as a trial's owner."""
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": process.pid,
        "start": process.create_time(),
    }


def is_gone(owner: Mapping[str, Any] | None, beat: float | None) -> bool:
    """Whether a trial's owner has ended.

    Of this machine the system tells; of another its last sign of life.

    Args:
        owner: as :func:`describe_process` returned it; none where it ended before it said.
        beat: time of its last sign of life, seconds since the epoch.
    """
    if owner is None:
        return beat is None or time.time() - beat > STALE_SECONDS
    if (owner["host"], owner["boot"]) != (socket.gethostname(), _boot()):
        return beat is None or time.time() - beat > STALE_SECONDS
    try:
        return bool(abs(psutil.Process(owner["pid"]).create_time() - owner["start"]) > 1)
    except psutil.NoSuchProcess:
        return True


@contextmanager
def beating(beat: Callable[[], None]) -> Iterator[None]:
    """Call ``beat`` every minute in a thread while the block runs."""
    ended = threading.Event()

    def go() -> None:
        while not ended.wait(BEAT_SECONDS):
            beat()

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10)


def _boot() -> str:
    """Return what tells machines, and containers of one machine, apart: boot and process space."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""
