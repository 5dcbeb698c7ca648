"""What is asked of a teacher and what it wrote: jobs, drafts, and all that a task works with."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgetune.data.rows import Message, Row
from edgetune.recipe.synthesis import SynthesizeSection
from edgetune.synthesize.teacher import Question, Teacher
from edgetune.synthesize.template import Template


@dataclass(frozen=True)
class Job:
    """One row to be written.

    Attributes:
        number: of the row, from 0.
        row: the seed; its answer is empty where the file has none.
    """

    number: int
    row: Row


@dataclass(frozen=True)
class Draft:
    """One written row before it is accepted.

    Attributes:
        number: of its job.
        seed: file and line of the seed row.
        prompt: the turns before the answer.
        answer: what the row trains.
        rejected: the worse answer of a preference pair; else empty.
        fault: why it cannot be used, where the teacher failed; else empty.
    """

    number: int
    seed: str
    prompt: tuple[Message, ...]
    answer: str
    rejected: str = ""
    fault: str = ""

    @property
    def asked(self) -> str:
        """The text of the last user turn."""
        return next((m.content for m in reversed(self.prompt) if m.role == "user"), "")

    def as_value(self) -> dict[str, Any]:
        """Return plain JSON values; :meth:`of` reads them."""
        turns = [message.as_turn() for message in self.prompt]
        return {**vars(self), "prompt": turns}

    @classmethod
    def of(cls, value: dict[str, Any]) -> Draft:
        """Undo :meth:`as_value`."""
        turns = tuple(Message(turn["role"], turn["content"]) for turn in value["prompt"])
        return cls(**{**value, "prompt": turns})


@dataclass(frozen=True)
class Work:
    """What a task works with.

    Attributes:
        section: the recipe's.
        teacher: writes.
        template: what asks for a prompt or an answer; ``None``: the row's own prompt is sent.
        shown: rows that examples are chosen from.
        seed: of the recipe.
    """

    section: SynthesizeSection
    teacher: Teacher
    template: Template | None
    shown: Sequence[Row]
    seed: int

    def question(self, turns: Sequence[Message], job: Job, purpose: str) -> Question:
        """Return a question whose random draws depend on recipe seed, job and purpose alone."""
        text = f"{self.seed}\0{job.number}\0{purpose}"
        return Question(tuple(turns), number_of(text), self.section.heat)

    def answer_question(self, prompt: Sequence[Message], job: Job, purpose: str) -> Question:
        """Return a question for the answer to a row's prompt, as a client would ask it."""
        return self.question(self.teacher.with_system(prompt), job, purpose)

    def examples(self, job: Job) -> list[dict[str, str]]:
        """Return the prompts and answers of the job's seed and of others drawn by its number."""
        others = [row for row in self.shown if row is not job.row]
        count = min(self.section.examples - 1, len(others))
        drawn = random.Random(number_of(f"{self.seed}\0{job.number}")).sample(others, count)
        return [{"prompt": asked_of(row), "answer": row.answer} for row in (*drawn, job.row)]


def number_of(text: str) -> int:
    """Return a random-looking number below 2**63 that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def asked_of(row: Row) -> str:
    """Return the text of a row's last user turn."""
    return next((m.content for m in reversed(row.prompt) if m.role == "user"), "")


def replace_asked(prompt: Sequence[Message], text: str) -> tuple[Message, ...]:
    """Return the turns with another text in the last user turn."""
    last = max(n for n, message in enumerate(prompt) if message.role == "user")
    return (*prompt[:last], Message("user", text), *prompt[last + 1 :])
