"""A reward that is a function of a file of the user, run in a process with limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetune.data.rows import Row
from edgetune.runtimes.python_function import PythonFunction


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
        self._function = PythonFunction(file, name, seconds, "the reward function")

    def __call__(self, rows: Sequence[Row], answers: Sequence[str]) -> list[float]:
        """Return the score of each answer.

        Raises:
            InputError: the function raises, hangs, ends its process or returns something else.
        """
        job = {
            "prompts": [[message.as_turn() for message in row.prompt] for row in rows],
            "completions": list(answers),
            "answers": [row.answer for row in rows],
        }
        return self._function(job, len(answers), f"rows from {rows[0].where} on" if rows else "")

    def close(self) -> None:
        """End the process."""
        self._function.close()
