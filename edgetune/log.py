"""One log for people and programs: lines and bars on stderr, events in ``log.jsonl``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BAR_WIDTH = 24
Listener = Callable[[str, dict[str, Any]], None]


class Log:
    """Writes what a stage says.

    Args:
        path: file that events are appended to as JSON lines; ``None`` keeps none.
        stage: name put on every event and line.
        quiet: print nothing to stderr (events are still kept).
        key: of the artifact that the stage makes, put on every event: a run's log outlives recipes.
        listener: called with every event's kind and fields.
    """

    def __init__(
        self,
        path: Path | None = None,
        stage: str = "",
        quiet: bool = False,
        key: str = "",
        listener: Listener | None = None,
    ) -> None:
        self.path = path
        self.stage = stage
        self.quiet = quiet
        self.key = key
        self.listener = listener

    def bind(self, stage: str, key: str = "") -> Log:
        """Return the same log, with its listener, speaking for another stage."""
        return Log(self.path, stage, self.quiet, key, self.listener)

    def listened(self, listener: Listener) -> Log:
        """Return the same log with one more listener."""
        earlier = self.listener

        def both(kind: str, fields: dict[str, Any]) -> None:
            for one in (earlier, listener):
                if one is not None:
                    one(kind, fields)

        return Log(self.path, self.stage, self.quiet, self.key, both)

    def muted(self) -> Log:
        """Return a log that says and keeps nothing: for what an earlier stage has said already."""
        return Log(None, self.stage, quiet=True)

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event: ``{"time": seconds since the epoch, "stage", "key", "event", …}``."""
        if self.listener is not None:
            self.listener(kind, fields)
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
        self._bar: _TerminalBar | None = None
        if sys.stderr.isatty() and not log.quiet:
            self._bar = _TerminalBar(f"{log.stage:<9} {title}", self.total)
        self._shown: tuple[int, dict[str, str]] = (-1, {})
        self._interval = 0.2 if self._bar else 10.0
        self._drawn = self._start if self._bar else self._start - 9.0  # in one second, then in ten

    def skip(self, steps: int) -> None:
        """Count ``steps`` of an earlier process as done, without counting them in the speed."""
        self.done += steps
        self._first = self.done
        if self._bar:
            self._bar.restart(self.done)

    def update(self, steps: int = 1, **fields: str) -> None:
        """Advance by ``steps`` and show ``fields`` behind the bar."""
        self.done += steps
        self._fields.update(fields)
        now = time.monotonic()
        if now - self._drawn >= self._interval:
            self._drawn = now
            self._draw(now)

    def close(self) -> None:
        """Draw the last state, if it is not the last line already, and end the line."""
        if self._shown != (self.done, self._fields):
            self._draw(time.monotonic())
        if self._bar:
            self._bar.stop()

    def _draw(self, now: float) -> None:
        if self.log.quiet:
            return
        self._shown = (self.done, dict(self._fields))
        shown = "  ".join(f"{name} {value}" for name, value in self._fields.items())
        if self._bar:
            self._bar.draw(self.done, shown)
            return
        elapsed = max(now - self._start, 1e-9)
        rate = (self.done - self._first) / elapsed
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        filled = min(BAR_WIDTH, BAR_WIDTH * self.done // self.total)
        sys.stderr.write(
            f"{self.log.stage:<9} {self.title} {'━' * filled}{'╌' * (BAR_WIDTH - filled)} "
            f"{self.done}/{self.total}  {shown}  {clock(elapsed)} elapsed, {clock(left)} left\n"
        )
        sys.stderr.flush()


class _TerminalBar:
    """A bar that rich redraws in place; lines that are written meanwhile stand above it."""

    def __init__(self, title: str, total: int) -> None:
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        def text(form: str) -> progress.TextColumn:
            cell = Column(no_wrap=True, overflow="ellipsis")
            return progress.TextColumn(form, style="none", markup=False, table_column=cell)

        self._progress = progress.Progress(
            text("{task.description}"),
            progress.BarColumn(BAR_WIDTH),
            text("{task.completed:.0f}/{task.total:.0f}"),
            text("{task.fields[shown]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            auto_refresh=False,  # a thread of its own would be in the way of forks
            redirect_stdout=False,  # stdout is for results
        )
        self._task = self._progress.add_task(title, total=total, shown="")
        self._progress.start()

    def restart(self, done: int) -> None:
        """Start to measure the speed at ``done`` steps."""
        self._progress.reset(self._task, completed=done)

    def draw(self, done: int, shown: str) -> None:
        """Draw ``done`` steps, with the text ``shown`` behind them."""
        self._progress.update(self._task, completed=done, shown=shown, refresh=True)

    def stop(self) -> None:
        """Leave the last state on the terminal."""
        self._progress.stop()


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
