"""TASKS: what a teacher can be asked to write, one row and one file each.

A new task is a file here with ``write(work, jobs)`` and a row: the recipe's choices and the stage
read the row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a recipe is read without torch, and its choices come from here
    from edgetune.synthesize.draft import Draft, Job, Work


@dataclass(frozen=True)
class Task:
    """One kind of row that a teacher writes.

    Attributes:
        summary: for help and reference.
        module: the module of this package whose ``write(work, jobs)`` returns a draft per job.
        temperature: of random decoding where the recipe names none; 0: greedy.
        new_prompts: the prompts are new, so that equal ones are duplicates whatever the answer.
        needs_answers: the seed rows must have answers.
        calls: requests per row.
    """

    summary: str
    module: str
    temperature: float
    new_prompts: bool = False
    needs_answers: bool = False
    calls: int = 1

    def write(self, work: Work, jobs: Sequence[Job]) -> list[Draft]:
        """Return what the teacher wrote for each job, in order."""
        module = import_module(f"{__name__}.{self.module}")
        found: Callable[[Work, Sequence[Job]], list[Draft]] = module.write
        return found(work, jobs)


TASKS: dict[str, Task] = {
    "answers": Task("answers to the seed rows' prompts", module="answers", temperature=0.0),
    "paraphrases": Task(
        "their prompts in other words, with the seed row's answer",
        module="paraphrases",
        temperature=0.8,
        new_prompts=True,
        needs_answers=True,
    ),
    "instructions": Task(
        "new prompts in the manner of some seed rows, then answers",
        module="instructions",
        temperature=0.8,
        new_prompts=True,
        calls=2,
    ),
    "preferences": Task(
        "pairs of a chosen and a rejected answer", module="preferences", temperature=0.8, calls=2
    ),
}
