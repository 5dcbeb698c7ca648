"""Prompts of rows: examples as earlier turns, with a system prompt or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgetune.data.encode import Encoder
from edgetune.data.examples import Examples
from edgetune.data.rows import Message, Row
from edgetune.measure.subject import Subject
from edgetune.recipe import PromptingSection


@dataclass(frozen=True)
class Asked:
    """A model that is asked, with what turns rows into its tokens.

    Attributes:
        part: ``base``, ``larger`` or ``tuned``.
        subject: the model.
        encoder: with its own tokenizer and template.
        context: positions it was made for; none where it has no limit.
    """

    part: str
    subject: Subject
    encoder: Encoder
    context: int | None


@dataclass(frozen=True)
class Questions:
    """Answered test rows that all models are asked, and the examples of train for them.

    Attributes:
        rows: all that other models are asked, so that their answers can be compared.
        examples: never a row that is similar to the question.
        leaked: whether train has the row too: it is asked and not counted; empty is none.
    """

    rows: Sequence[Row]
    examples: Examples
    leaked: Sequence[bool] = ()

    @property
    def counted(self) -> list[int]:
        """The numbers of the rows that prompts are compared on."""
        leaked = self.leaked or [False] * len(self.rows)
        return [number for number, known in enumerate(leaked) if not known]


@dataclass(frozen=True)
class Kind:
    """A kind of prompt: how many examples, and whether with the recipe's system prompt."""

    shots: int
    system: str | None

    @property
    def name(self) -> str:
        """As the report calls it."""
        examples = f"{self.shots} example{'s' * (self.shots != 1)}" if self.shots else "zero-shot"
        return f"{examples}, system prompt" if self.system else examples


@dataclass(frozen=True)
class Prompts:
    """The prompts of a kind for all rows, and how many have fewer examples than wanted.

    Attributes:
        ids: token ids of each row's prompt.
        cut: of the rows that are counted.
    """

    ids: list[list[int]]
    cut: int


def list_kinds(section: PromptingSection) -> list[Kind]:
    """Return the kinds of prompts that a recipe asks for."""
    systems = [None, section.system] if section.system else [None]
    return [Kind(shots, system) for shots in dict.fromkeys(section.shots) for system in systems]


def write_prompt(row: Row, examples: Sequence[Row], system: str | None) -> Row:
    """Return the row with examples as earlier turns of its conversation.

    A row's own system message stays, after the system prompt; those of examples are left out.
    """
    own = [turn.content for turn in row.messages if turn.role == "system"]
    first = "\n\n".join([system, *own] if system else own)
    turns = [Message("system", first)] if first else []
    for example in (*examples, row):
        turns += [turn for turn in example.messages if turn.role != "system"]
    return replace(row, messages=tuple(turns))


def make_prompts(asked: Asked, questions: Questions, kind: Kind, new_tokens: int) -> Prompts:
    """Return the prompts of a kind, with as many examples as the model's context holds.

    Raises:
        InputError: the model's template refuses such a conversation.
    """
    found, cut, counted = [], 0, set(questions.counted)
    for number, row in enumerate(questions.rows):
        chosen = questions.examples.choose(row, kind.shots)
        ids = asked.encoder.prompt(write_prompt(row, chosen, kind.system))
        while chosen and asked.context is not None and len(ids) + new_tokens > asked.context:
            chosen = chosen[1:]  # the least similar
            ids = asked.encoder.prompt(write_prompt(row, chosen, kind.system))
        cut += len(chosen) < kind.shots and number in counted
        found.append(ids)
    return Prompts(found, cut)
