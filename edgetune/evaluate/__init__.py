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
    from edgetune.measure.bootstrap import Sums
    from edgetune.measure.definitions import Definition
    from edgetune.measure.statistics import Estimate


#: Texts, or pairs of them, of which is remembered what was found in them: models answer alike.
REMEMBERED = 1 << 16


@dataclass(frozen=True)
class Questions:
    """Test rows that every model answered.

    Attributes:
        prompts: what was asked, as text.
        expected: the right answers, as text.
        options: settings of the task (``labels``, ``schema_file``, ``metric``, …), from the recipe.
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
        sums: its sufficient statistics for each row, where it is a function of sums over rows (F1,
            BLEU): what paired tests compare where there are no ``rows``.
        bounds: least and greatest value of a row, where the interval of ``rows`` is BCa's bootstrap
            within them; absent: it is Wilson's or Student's.
        note: the library's signature, or what was left out; often empty.
    """

    name: str
    estimate: Estimate
    rows: Sequence[float] | None = None
    sums: Sums | None = None
    note: str = ""
    bounds: tuple[float, float] | None = None


def score_hits(name: str, hits: Sequence[bool]) -> Score:
    """Return the fraction of rows of which something is true, with Wilson's interval.

    Raises:
        ValueError: no rows.
    """
    from edgetune.measure.statistics import proportion

    return Score(name, proportion(sum(hits), len(hits)), [float(one) for one in hits])


#: A line of a table.
Line = Sequence[str | float | int | None]


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
    rows: Sequence[Line]


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
    "classification": Task("one label of a list", "classification", "accuracy"),
    "extraction": Task("JSON values, compared field by field", "extraction", "field_f1"),
    "tool_calls": Task("calls of tools: names and arguments", "tool_calls", "call_match"),
    "generation": Task("free text, compared with a reference text", "generation", "rouge_l"),
    "translation": Task("text in another language", "translation", "chrf"),
    "numeric": Task("a number, at the end of the answer or alone", "numeric", "numeric_accuracy"),
    "multiple_choice": Task("a letter of a list of choices", "multiple_choice", "choice_accuracy"),
    "command": Task("a shell command or a line of code", "command", "command_match"),
    "custom": Task("scores of a function in a Python file", "custom", "custom_score"),
    "exact": Task("answers that are right or wrong as a whole", "exact", "exact_match"),
}
