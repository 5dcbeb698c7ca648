"""A function of a Python file of the user that scores answers, run in a process with limits."""

from __future__ import annotations

import atexit
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetune.errors import InputError
from edgetune.runtimes.child import Child

MEMORY_BYTES = 2 * 2**30
START_SECONDS = 60.0  # to import what the file imports
FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")  # as recipes name one


class PythonFunction:
    """Scores answers by ``FILE.py:FUNCTION``.

    The file is never imported in this process: a child loads it, with a limit on its memory, and a
    call that takes too long ends it.

    Args:
        file: of the user.
        name: of the function.
        seconds: that one call may take.
        noun: what it is to the user, in messages: a reward function, a metric.

    Raises:
        InputError: the file cannot be run, or has no such function.
    """

    def __init__(self, file: Path, name: str, seconds: float, noun: str) -> None:
        self._file, self._name, self._seconds, self._noun = file, name, seconds, noun
        if not file.is_file():
            raise InputError("no such file", where=str(file))
        self._errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (open as long as the process)
        self._child: Child | None = None
        atexit.register(self.close)
        self._start()

    def __call__(self, arguments: Mapping[str, Any], answers: int, where: str) -> list[float]:
        """Return the number that the function gives each answer.

        Args:
            arguments: of the function, JSON values.
            answers: how many numbers it has to return.
            where: which rows these are, for messages; may be empty.

        Raises:
            InputError: the function raises, hangs, ends its process or returns something else.
        """
        if self._child is None or not self._child.running:
            self._start()
        assert self._child is not None
        try:
            self._child.send(arguments)
            found = self._child.receive(self._seconds)
        except TimeoutError:
            self.close()
            raise self._fault(
                f"runs longer than {self._seconds:g} seconds for {answers} answers", where
            ) from None
        except BrokenPipeError:
            found = None
        if found is None:
            self.close()
            raise self._fault(f"ended its process{self._last_line()}", where)
        if "error" in found[0]:
            raise self._fault(str(found[0]["error"]), where)
        scores = [float(value) for value in found[0]["scores"]]
        if len(scores) != answers:
            raise self._fault(f"returns {len(scores)} numbers for {answers} answers", where)
        return scores

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def _start(self) -> None:
        from edgetune.runtimes import python_child

        command = [sys.executable, "-I", python_child.__file__, str(self._file.resolve())]
        self._child = Child([*command, self._name, str(MEMORY_BYTES)], self._errors)
        try:
            found = self._child.receive(START_SECONDS)
        except TimeoutError:
            self.close()
            raise self._fault(f"is not loaded after {START_SECONDS:g} seconds") from None
        if found is None or "error" in found[0]:
            self.close()
            reason = found[0]["error"] if found else f"ended its process{self._last_line()}"
            raise self._fault(str(reason))

    def _fault(self, what: str, where: str = "") -> InputError:
        place = f"{self._file}:{self._name}" + (f", {where}" if where else "")
        return InputError(f"{self._noun} {what}", where=place)

    def _last_line(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""
