"""SHAPES: the forms that rows come in, one row each; which keys, what is read, and what for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgetune.data.conversations import (
    end_at_answer,
    end_at_prompt,
    fill_text,
    read_history,
    read_list,
    read_messages,
    read_optional,
    read_side,
    read_text,
    read_thumb,
    trim_answers,
)
from edgetune.data.labels import find_label_columns
from edgetune.data.pairs import read_pair, why_no_pair
from edgetune.data.records import Record
from edgetune.data.rows import Message, Row
from edgetune.data.turns import read_tools
from edgetune.errors import InputError
from edgetune.recipe import Columns, DataSection

Value = Mapping[str, Any]
_MORE = frozenset({"system", "tools", "functions"})
_ANSWERED = ("sft", "distill", "grpo")
THUMBS = ("label", "kto_tag")


@dataclass(frozen=True)
class Shape:
    """A form of rows.

    Attributes:
        name: what ``data.format`` calls it.
        needed: sets of keys, one of which is there whole.
        used: keys that are read where they are there.
        read: returns the turns of a record; the last answer of a pair is the chosen one.
        objectives: what can be trained on such rows: ``sft``, ``text`` (all tokens of a text),
            ``dpo``, ``kto``, ``reward``, ``grpo``, ``distill``.
        trains: what of it ``sft`` trains, where that is not all answers.
        fits: whether a record with the keys has values of this form.
    """

    name: str
    needed: tuple[frozenset[str], ...]
    used: frozenset[str]
    read: Callable[[Value, str], list[Message]]
    objectives: tuple[str, ...]
    trains: str = ""
    fits: Callable[[Value], bool] = lambda value: True

    @property
    def keys(self) -> frozenset[str]:
        """All keys that are read."""
        return self.used.union(*self.needed)


def _read_conversation(key: str) -> Callable[[Value, str], list[Message]]:
    return lambda value, where: read_messages(read_list(value, key, where), where)


def _read_completion(value: Value, where: str) -> list[Message]:
    return [
        *read_side(value, "prompt", "user", where),
        *read_side(value, "completion", "assistant", where),
    ]


def _read_instruction(value: Value, where: str) -> list[Message]:
    # The input is the material an instruction speaks of: it belongs below it.
    parts = (read_text(value, "instruction", where), read_optional(value, "input", where))
    return [
        *read_history(value, where),
        Message("user", "\n".join(part for part in parts if part)),
        Message("assistant", read_text(value, "output", where)),
    ]


def _read_thumbs(value: Value, where: str) -> list[Message]:
    for key in ("messages", "conversations"):
        if key in value:
            return read_messages(read_list(value, key, where), where)
    return _read_completion(value, where)


def _read_prompt(value: Value, where: str) -> list[Message]:
    return read_side(value, "prompt", "user", where)


def _has_thumb(value: Value) -> bool:
    thumbs = [value[key] for key in THUMBS if key in value]
    return any(
        isinstance(one, bool) or (isinstance(one, str) and one.strip().lower() in ("true", "false"))
        for one in thumbs
    )


def _sets(*keys: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(one.split()) for one in keys)


#: In order: a record is of the first form that it has the keys of.
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape(
            "preference", _sets("chosen rejected"),
            _MORE | {"prompt", "messages", "conversations", "instruction", "input", "question"},
            lambda value, where: read_pair(value, where)[0],
            ("dpo", "reward", *_ANSWERED), "the chosen answers train",
        ),
        Shape(
            "unpaired_preference",
            _sets(*(f"{rest} {thumb}" for thumb in THUMBS
                    for rest in ("prompt completion", "messages", "conversations"))),
            _MORE, _read_thumbs, ("kto", *_ANSWERED), "the liked answers train", _has_thumb,
        ),
        Shape("messages", _sets("messages"), _MORE, _read_conversation("messages"), _ANSWERED),
        Shape(
            "sharegpt", _sets("conversations"), _MORE, _read_conversation("conversations"),
            _ANSWERED,
        ),
        Shape(
            "prompt_completion", _sets("prompt completion"), _MORE, _read_completion, _ANSWERED
        ),
        Shape(
            "instruction", _sets("instruction output"), _MORE | {"input", "history"},
            _read_instruction, _ANSWERED,
        ),
        Shape(
            "text", _sets("text"), frozenset({"heading", "document"}), lambda value, where: [],
            ("text", "distill"),
        ),
        Shape("prompt_only", _sets("prompt"), _MORE, _read_prompt, ("grpo",)),
    )
}  # fmt: skip
#: Those whose columns the recipe names, or are found by what they hold.
COLUMN_SHAPES = ("classification", "columns")


@dataclass(frozen=True)
class Chosen:
    """The shape of a source's rows: its columns where it has some, how it was found."""

    format: str
    said: str
    columns: Columns | None = None
    keys: frozenset[str] = frozenset()

    @property
    def used(self) -> set[str]:
        """The keys of a row that are read."""
        if self.columns is not None:
            return {name for some in self.columns.names(self.keys).values() for name in some}
        return set(SHAPES[self.format].keys)

    @property
    def objectives(self) -> tuple[str, ...]:
        """What can be trained on such rows."""
        return _ANSWERED if self.columns is not None else SHAPES[self.format].objectives


def detect_format(value: Value) -> str | None:
    """Return the first shape whose needed keys are all there and fit, or ``None``."""
    present = set(value)
    return next(
        (
            name
            for name, shape in SHAPES.items()
            if any(needed <= present for needed in shape.needed) and shape.fits(value)
        ),
        None,
    )


def choose_shape(records: Sequence[Record], section: DataSection, where: object) -> Chosen:
    """Return the shape of a source's rows, of the first of them.

    Raises:
        InputError: no known shape fits, or ``columns`` was asked for and not given.
    """
    columns = section.columns
    values = [record.value for record in records if record.value is not None]
    keys = frozenset(str(key) for value in values for key in value)
    if section.format == "columns" and columns is None:
        raise InputError(
            "format: columns needs the names of the columns",
            where="data.columns",
            hint="columns: {prompt: question, completion: answer}",
        )
    if section.format == "columns" or (section.format == "auto" and columns is not None):
        assert columns is not None
        said = f"columns {columns.prompt} → {columns.completion}"
        return Chosen("columns", said, columns, keys)
    if section.format not in ("auto", "classification"):
        said = _say(section.format, "named by the recipe")
        return Chosen(section.format, said, keys=keys)
    votes = Counter(detect_format(value) for value in values)
    if not votes:
        first = records[0] if records else Record(str(where), None, "the file holds no rows")
        hint = first.hint or "no row could be read"
        raise InputError(first.fault, where=first.where, hint=hint)
    format = votes.most_common(1)[0][0]
    if format in (None, "text") or section.format == "classification":
        found = find_label_columns(values)
        if found is not None:
            said = f"classification, {found.prompt} → {found.completion}"
            return Chosen("classification", said, found, keys)
    if format is None or section.format == "classification":
        shown = ", ".join(map(str, values[0])) or "none"
        raise InputError(
            f"rows have the keys {shown}: no shape that is known",
            where=str(where),
            hint="name them: data.columns: {prompt: …, completion: …}",
        )
    return Chosen(format, _say(format, "detected"), keys=keys)


def make_row(value: Value, format: str, where: str, columns: Columns | None = None) -> Row:
    """Turn one record into a row.

    The white space around an answer is dropped: answers are compared without it, and a leading
    space is glued to the first word differently by every tokenizer.

    Raises:
        InputError: a key is missing, a value is not text, or there is no answer.
    """
    if format == "text":
        return Row((), read_text(value, "text", where), where)
    if columns is not None:
        messages = [
            Message("user", fill_text(value, columns.prompt, where)),
            Message("assistant", fill_text(value, columns.completion, where)),
        ]
    else:
        assert format in SHAPES, "the columns are found when files are loaded"
        messages = SHAPES[format].read(value, where)
    system_key = columns.system if columns else "system"
    system = read_optional(value, system_key, where) if system_key else ""
    if system and messages[0].role != "system":
        messages.insert(0, Message("system", system))
    tools = read_tools(value, format, where) if columns is None else ""
    if format == "prompt_only":
        return Row(end_at_prompt(messages, where), None, where, tools)
    row = Row(end_at_answer(messages, where), None, where, tools)
    if format == "preference":
        return replace(row, rejected=trim_answers(read_pair(value, where)[1]))
    if format == "unpaired_preference":
        return replace(row, label=read_thumb(value, THUMBS, where))
    return row


def make_shaped(record: Record, shape: Chosen) -> Row:
    """Turn a record of a source into a row of the source's shape.

    Raises:
        InputError: a faulty record, as :func:`make_row`; or other keys than the first rows have.
    """
    if record.value is None:
        hint = f"{record.hint}; data.on_bad_row: skip leaves it out" if record.hint else ""
        raise InputError(record.fault, where=record.where, hint=hint)
    try:
        return make_row(record.value, shape.format, record.where, shape.columns)
    except InputError as error:
        keys = {str(key) for key in record.value}
        gone = sorted((shape.keys - keys) & shape.used)
        if not gone or keys <= shape.keys or not error.what.startswith("no key"):
            raise
        new = ", ".join(sorted(keys - shape.keys))
        raise InputError(
            f"the keys changed: no {', '.join(gone)} any more, and now {new}",
            where=error.where,
            hint="name such rows as a source of their own, with its format or columns",
        ) from error


def why_unused(row: Row, objective: str = "sft") -> str:
    """Return why an objective has no use for a row; empty if it has."""
    if objective in ("sft", "distill") and row.label is False:
        return "its answer was not liked (label: false), and only liked ones train"
    if objective in ("sft", "distill") and row.text is None and not row.is_answered:
        return "a prompt without an answer"
    if objective in ("dpo", "reward"):
        return why_no_pair(row)
    if objective == "kto" and row.label is None:
        return "no label that says whether the answer was liked"
    return ""


def _say(format: str, found: str) -> str:
    trains = SHAPES[format].trains
    return f"{format} ({found}{'; ' + trains if trains else ''})"
