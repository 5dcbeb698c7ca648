"""Keys of ``bench`` that only say how answers are graded: to change one runs no model again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgetune.evaluate import TASKS
from edgetune.recipe.section import PathText, Positive, Section

if TYPE_CHECKING:
    TaskName = str
else:  # the rows of the table are the choices: in validation, help and schema
    TaskName = Literal["auto", *TASKS]


class TaskOptions(Section):
    """Settings of the task; with ``task: auto`` some of them decide it."""

    labels: tuple[str, ...] = Field(
        (), description="labels of a classification; absent: those of the expected answers"
    )
    out_of_scope: tuple[str, ...] = Field(
        (), description="labels of questions that belong to no other"
    )
    ignore_case: bool = Field(
        False, description="whether a label counts in upper and lower case alike"
    )
    schema_file: PathText | None = Field(
        None, description="JSON schema that the answers of an extraction have to fit"
    )
    bleu_tokenize: Literal["13a", "char", "intl", "none", "zh"] | None = Field(
        None, description="how sacrebleu splits texts for BLEU; absent: by their script"
    )
    decimal_comma: bool = Field(False, description="whether 1,5 is one and a half, not fifteen")
    tolerance: float = Field(0.0, ge=0, description="difference to the right number that is right")
    relative_tolerance: float = Field(
        0.0, ge=0, description="the same as a fraction of the right number"
    )
    metric: str | None = Field(
        None, description="`FILE.py:FUNCTION` that scores answers, for the task custom"
    )
    metric_seconds: Positive = Field(60.0, description="longest time of a call of that function")


#: Which tasks read each of them.
OPTION_TASKS: dict[str, tuple[str, ...]] = {
    "labels": ("classification",),
    "out_of_scope": ("classification",),
    "ignore_case": ("classification",),
    "schema_file": ("extraction",),
    "bleu_tokenize": ("generation", "translation"),
    "decimal_comma": ("numeric",),
    "tolerance": ("numeric",),
    "relative_tolerance": ("numeric",),
    "metric": ("custom",),
    "metric_seconds": ("custom",),
}


class GradingSettings(Section):
    """How answers are graded."""

    task: TaskName = Field(
        "auto",
        description="how answers are graded; auto: guessed from the rows. "
        + "; ".join(f"{name}: {task.summary}" for name, task in TASKS.items()),
    )
    task_options: TaskOptions = Field(
        default_factory=TaskOptions, description="settings of the task"
    )
    slices: tuple[str, ...] = Field(
        (),
        description="columns of the raw rows whose values are graded apart; the length of the "
        "prompt and, of a classification, the label always are",
    )


#: Their dotted names: bench's artifact does not depend on them.
GRADING_KEYS = tuple(f"bench.{name}" for name in GradingSettings.model_fields)
