"""Stops trainings that are behind: validation losses, reported at the same tokens in all trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from edgetune.errors import EdgetuneError

#: Reports lie at powers of this many tokens, whatever a trial's batches are.
GRID = math.sqrt(2.0)


class Behind(EdgetuneError):
    """A trial's validation loss is behind the others' after as many tokens."""


class PruneBehind:
    """Listens to a run's log, and ends the training of one role where it is behind.

    Validations of trials with other batches come after other numbers of tokens; between two of
    them the loss is interpolated.

    Args:
        role: of the training that decides, ``teacher`` or ``student``.
        is_behind: reports tokens and loss, and says whether to stop.
    """

    def __init__(self, role: str, is_behind: Callable[[int, float], bool]) -> None:
        self._role, self._is_behind = role, is_behind
        self._last: tuple[float, float] | None = None

    def __call__(self, kind: str, fields: dict[str, Any]) -> None:
        """Take an event of the log.

        Raises:
            Behind: the training is to end.
        """
        if kind != "train" or fields.get("role") != self._role or "eval_loss" not in fields:
            return
        tokens, loss = float(fields["tokens"]), float(fields["eval_loss"])
        if not math.isfinite(loss):
            raise Behind(f"the validation loss is {loss} after {tokens:,.0f} tokens")
        for point, value in self._between(tokens, loss):
            if self._is_behind(point, value):
                raise Behind(
                    f"a validation loss of {value:.4f} after {point:,} tokens is behind the others'"
                )

    def _between(self, tokens: float, loss: float) -> Iterator[tuple[int, float]]:
        """Yield the grid's points since the last validation, with the loss there."""
        last, self._last = self._last, (tokens, loss)
        if last is None or tokens <= last[0]:
            return
        first = math.ceil(math.log(max(last[0], 1.0), GRID) + 1e-9)
        for power in range(first, math.floor(math.log(tokens, GRID) + 1e-9) + 1):
            share = (GRID**power - last[0]) / (tokens - last[0])
            yield round(GRID**power), last[1] + share * (loss - last[1])
