"""Keys of ``bench`` that only say how answers are graded: to change one runs no model again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgetune.evaluate import TASKS
from edgetune.recipe.section import PathText, Section

if TYPE_CHECKING:
    TaskName = str
else:  # the rows of the table are the choices: in validation, help and schema
    TaskName = Literal["auto", *TASKS]


class TaskOptions(Section):
    """Settings of the task."""

    labels: tuple[str, ...] = Field(
        (), description="the classes of a classification; absent: those of the expected answers"
    )
    out_of_scope: tuple[str, ...] = Field(
        (), description="labels of questions that the model is not to answer"
    )
    schema_file: PathText | None = Field(
        None, description="JSON schema that the answers of an extraction have to fit"
    )
    metric: str | None = Field(
        None,
        description="`file.py:name` of the function that grades an answer, for the task custom",
    )


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
