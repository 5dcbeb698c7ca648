"""One log for people and programs: lines and bars on stderr, events in ``log.jsonl``."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Log:
    """Writes what a stage says.

    Args:
        path: file that events are appended to as JSON lines; ``None`` keeps none.
        stage: name put on every event and line.
        quiet: print nothing to stderr (events are still kept).
        key: of the artifact that the stage makes, put on every event: a run's log outlives recipes.
    """

    def __init__(
        self, path: Path | None = None, stage: str = "", quiet: bool = False, key: str = ""
    ) -> None:
        self.path = path
        self.stage = stage
        self.quiet = quiet
        self.key = key

    def bind(self, stage: str, key: str = "") -> Log:
        """Return the same log speaking for another stage."""
        return Log(self.path, stage, self.quiet, key)

    def muted(self) -> Log:
        """Return a log that says and keeps nothing: for what an earlier stage has said already."""
        return Log(None, self.stage, quiet=True)

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event: ``{"time": seconds since the epoch, "stage", "key", "event", …}``."""
        if self.path is None:
            return
        row: dict[str, Any] = {"time": round(time.time(), 3), "stage": self.stage}
        row |= {"key": self.key} if self.key else {}
        row |= {"event": kind, **fields}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")

    def say(self, text: str) -> None:
        """Tell the person one line (stderr) and keep it as an event."""
        self.event("say", text=text)
        if not self.quiet:
            name = f"{self.stage:<9}" if self.stage else ""
            sys.stderr.write(f"{name} {text}\n" if name else f"{text}\n")
            sys.stderr.flush()

    def warn(self, text: str) -> None:
        """Like :meth:`say`, marked so that the report can list it."""
        self.event("warning", text=text)
        if not self.quiet:
            sys.stderr.write(f"{self.stage:<9} warning: {text}\n")
            sys.stderr.flush()

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Progress]:
        """A bar of ``total`` steps: count, rate, time left and the last fields.

        On a terminal it is redrawn in place; elsewhere a line is printed after the first second
        and then every ten, so that a log file of a long run stays short.
        """
        bar = Progress(self, title, total)
        try:
            yield bar
        finally:
            bar.close()


class Progress:
    """The bar behind :meth:`Log.progress`."""

    def __init__(self, log: Log, title: str, total: int) -> None:
        self.log, self.title, self.total = log, title, max(total, 1)
        self.done = 0
        self._start = time.monotonic()
        self._first = 0
        self._fields: dict[str, str] = {}
        self._tty = sys.stderr.isatty()
        self._shown: tuple[int, dict[str, str]] = (-1, {})
        self._drawn = self._start if self._tty else self._start - 9.0  # in one second, then in ten

    def skip(self, steps: int) -> None:
        """Count ``steps`` that an earlier process did: they are done, but say nothing of speed."""
        self.done += steps
        self._first = self.done

    def update(self, steps: int = 1, **fields: str) -> None:
        """Advance by ``steps`` and show ``fields`` behind the bar."""
        self.done += steps
        self._fields.update(fields)
        now = time.monotonic()
        if now - self._drawn >= (0.2 if self._tty else 10.0):
            self._drawn = now
            self._draw(now)

    def close(self) -> None:
        """Draw the last state, if it is not the last line already, and end the line."""
        if self._tty or self._shown != (self.done, self._fields):
            self._draw(time.monotonic())
        if self._tty and not self.log.quiet:
            sys.stderr.write("\n")

    def _draw(self, now: float) -> None:
        if self.log.quiet:
            return
        self._shown = (self.done, dict(self._fields))
        elapsed = max(now - self._start, 1e-9)
        rate = (self.done - self._first) / elapsed
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        width = 24
        filled = min(width, width * self.done // self.total)
        shown = "  ".join(f"{name} {value}" for name, value in self._fields.items())
        line = (
            f"{self.log.stage:<9} {self.title} {'━' * filled}{'╌' * (width - filled)} "
            f"{self.done}/{self.total}  {shown}  {clock(elapsed)} elapsed, {clock(left)} left"
        )
        if self._tty:  # a line that wraps would be redrawn below itself
            line = "\r\x1b[2K" + line[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(line if self._tty else line + "\n")
        sys.stderr.flush()


def clock(seconds: float) -> str:
    """``83.4`` → ``1:23``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1, "token"`` → ``1 token``; ``2500, "token"`` → ``2,500 tokens``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def bytes_text(count: float) -> str:
    """``2_400_000`` → ``2.40 MB`` (decimal units, as file sizes are quoted in this field)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
