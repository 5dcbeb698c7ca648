"""TASKS: how answers to test rows are graded, one row each.

A new task is a module here with ``grade(questions, answers)`` and one row. Answers are texts that
:mod:`edgetune.evaluate.predictions` keeps on disk, so that they are graded again without a model.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the recipe's choices are rows of this table: it loads nothing else
    from edgetune.measure.definitions import Definition
    from edgetune.measure.statistics import Estimate


@dataclass(frozen=True)
class Questions:
    """Test rows that every model answered.

    Attributes:
        prompts: what was asked, as text.
        expected: the right answers, as text.
        options: settings of the task (``labels``, ``schema``, ``metric``, …), from the recipe.
    """

    prompts: Sequence[str]
    expected: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """One metric of one model.

    Attributes:
        name: a key of the task's ``DEFINITIONS``.
        estimate: value, rows and 95 % interval; NaN where it is not defined (no row of a class).
        rows: its value for each row, where it is a mean over rows: what paired tests compare.
        note: the library's signature, or what was left out; often empty.
    """

    name: str
    estimate: Estimate
    rows: Sequence[float] | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table of one model: per class, a confusion matrix, per field.

    Attributes:
        name: ``per_class``, ``confusion``, ``per_field``, …
        title: its heading.
        columns: names of the columns; the first is of the rows' names.
        rows: one list of cells a row: texts, numbers, or None.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]


@dataclass(frozen=True)
class Graded:
    """What a task says of one model's answers.

    Attributes:
        scores: the headline metric first.
        right: whether each answer counts as right; flips are counted by it. None where no answer is
            right or wrong as a whole (generation).
        tables: for people.
    """

    scores: Sequence[Score]
    right: Sequence[bool] | None = None
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        summary: what its rows are.
        module: of this package, with ``grade`` and ``DEFINITIONS`` (metric name to definition).
        headline: the metric that answers "did it help?".
    """

    summary: str
    module: str
    headline: str

    @property
    def grade(self) -> Callable[[Questions, Sequence[str]], Graded]:
        """The task's function, imported when it is needed."""
        return self._load().grade  # type: ignore[no-any-return]

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """What each of its metrics is."""
        return self._load().DEFINITIONS  # type: ignore[no-any-return]

    def _load(self) -> Any:
        return importlib.import_module(f"edgetune.evaluate.{self.module}")


TASKS: dict[str, Task] = {
    "exact": Task("answers that are right or wrong as a whole", "exact", "exact_match"),
}
