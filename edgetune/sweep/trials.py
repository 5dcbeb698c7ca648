"""The trials of a study as values: the best of them, and those that none is better than."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgetune.recipe.search import MAXIMIZED


@dataclass(frozen=True)
class Trial:
    """One trial, as the report tells of it.

    Attributes:
        number: in the study, from 0; that trial has the recipe's own values.
        state: ``waiting``, ``running``, ``complete``, ``pruned`` or ``failed``.
        values: of the searched keys.
        objectives: what was measured, by name; empty unless complete.
        is_feasible: whether the constraints hold.
        owner: process that has it, or had it last.
        facts: what was kept of it: the file, measurements, seconds, why it failed.
    """

    number: int
    state: str
    values: dict[str, Any]
    objectives: dict[str, float] = field(default_factory=dict)
    is_feasible: bool = True
    owner: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        return self.state in ("complete", "pruned", "failed")

    @property
    def counts(self) -> bool:
        """Whether it was measured and keeps the constraints."""
        return self.state == "complete" and self.is_feasible


def find_best(trials: Sequence[Trial], objective: str) -> Trial | None:
    """Return the best trial that keeps the constraints; of equal ones the first."""
    evaluated = [one for one in trials if one.counts]
    return min(evaluated, key=lambda t: (_costs(t, [objective]), t.number), default=None)


def find_pareto(trials: Sequence[Trial], objectives: Sequence[str]) -> list[int]:
    """Return the numbers of the trials that no other one is at least as good as in everything."""
    costs = {one.number: _costs(one, objectives) for one in trials if one.counts}
    return [n for n, own in costs.items() if not any(_beats(one, own) for one in costs.values())]


def _costs(trial: Trial, objectives: Sequence[str]) -> list[float]:
    return [(-1 if o in MAXIMIZED else 1) * trial.objectives[o] for o in objectives]


def _beats(first: Sequence[float], second: Sequence[float]) -> bool:
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))
