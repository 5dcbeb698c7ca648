"""A reward that is a function of a file of the user, run in a process with limits."""

from __future__ import annotations

import atexit
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgetune.data.rows import Row
from edgetune.errors import InputError
from edgetune.runtimes.child import Child

MEMORY_BYTES = 2 * 2**30
START_SECONDS = 60.0  # to import what the file imports


class PythonReward:
    """Scores answers by ``FILE.py:FUNCTION``.

    The function is called with the lists ``prompts`` (each a list of turns), ``completions`` and
    ``answers`` (of the rows; empty where there are none), and returns a number for each completion,
    as TRL's reward functions do.

    Args:
        file: of the user.
        name: of the function.
        seconds: that it may take for a batch.

    Raises:
        InputError: the file cannot be run, or has no such function.
    """

    def __init__(self, file: Path, name: str, seconds: float) -> None:
        self._file, self._name, self._seconds = file, name, seconds
        if not file.is_file():
            raise InputError("no such file", where=str(file))
        self._errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (open as long as the process)
        self._child: Child | None = None
        atexit.register(self.close)
        self._start()

    def __call__(self, rows: Sequence[Row], answers: Sequence[str]) -> list[float]:
        """Return the score of each answer.

        Raises:
            InputError: the function raises, hangs, ends its process or returns something else.
        """
        if self._child is None or not self._child.running:
            self._start()
        assert self._child is not None
        job = {
            "prompts": [[message.as_turn() for message in row.prompt] for row in rows],
            "completions": list(answers),
            "answers": [row.answer for row in rows],
        }
        try:
            self._child.send(job)
            found = self._child.receive(self._seconds)
        except TimeoutError:
            self.close()
            raise self._fault(
                f"runs longer than {self._seconds:g} seconds for {len(answers)} answers", rows
            ) from None
        except BrokenPipeError:
            found = None
        if found is None:
            self.close()
            raise self._fault(f"ended its process{self._last_line()}", rows)
        if "error" in found[0]:
            raise self._fault(str(found[0]["error"]), rows)
        scores = [float(value) for value in found[0]["scores"]]
        if len(scores) != len(answers):
            raise self._fault(f"returns {len(scores)} rewards for {len(answers)} answers", rows)
        return scores

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def _start(self) -> None:
        from edgetune.train.rewards import python_child

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

    def _fault(self, what: str, rows: Sequence[Row] = ()) -> InputError:
        where = f"{self._file}:{self._name}"
        if rows:
            where += f", rows from {rows[0].where} on"
        return InputError(f"the reward function {what}", where=where)

    def _last_line(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""
