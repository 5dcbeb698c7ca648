"""Answers of models to rows, each by its own tokenizer, template and runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgetune.compare.loaded import LoadedModel
from edgetune.compare.model_spec import read_clock, resolve_spec
from edgetune.data.contract import NAME as CONTRACT
from edgetune.data.contract import encoder_of
from edgetune.data.rows import Message, Row
from edgetune.data.split import choose_rows
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.resolve import read_json
from edgetune.recipe import DataSection
from edgetune.votes.page import Question

LENGTHS = 1 << 20  # tokens: a prompt is never cut here
TOGETHER = 16  # rows between two lines of progress


@dataclass(frozen=True)
class Asking:
    """How models are asked.

    Attributes:
        most: rows, chosen by the seed.
        seed: of the rows.
        max_new_tokens: where an answer is cut off.
        system: system message for rows without one; absent: that of each model's contract.
        expected: whether the page shows the row's own answer.
    """

    most: int = 100
    seed: int = 0
    max_new_tokens: int = 256
    system: str | None = None
    expected: bool = False


def read_questions(data: Path, asking: Asking, log: Log) -> list[Row]:
    """Return rows that ask something, as many as are wanted, by the seed.

    Raises:
        InputError: none of the rows does.
    """
    from edgetune.data.load import load_rows
    from edgetune.data.sources import open_source

    section = DataSection(train=str(data))
    rows = load_rows(open_source(str(data), "data"), section, log, "data", answered=False).rows
    asked = [row for row in rows if row.text is None and row.prompt]
    if not asked:
        raise InputError(
            "no row has a question", where=str(data), hint="plain texts have nothing to be answered"
        )
    return list(choose_rows(asked, asking.most, asking.seed))


def as_question(row: Row, asking: Asking) -> Question:
    """Return what the page shows of a row."""
    turns = [(turn.role, turn.content) for turn in row.prompt]
    own = row.answer if asking.expected and row.answer != "-" else ""
    return Question(turns, own)


def name_models(specs: Sequence[str]) -> list[str]:
    """Return a short name for each model: the last parts of its path that tell it from others.

    Raises:
        InputError: fewer than two models, or one of them twice.
    """
    if len(specs) < 2 or len(set(specs)) < len(specs):
        raise InputError(
            "one model is named twice" if len(specs) > 1 else "there is only one model",
            where="command line",
            hint="edgetune compare A B --data rows.jsonl",
        )
    parts = [spec.rstrip("/").split("/") for spec in specs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return list(specs)


def answer_rows(spec: str, rows: Sequence[Row], asking: Asking, log: Log) -> list[str]:
    """Return a model's greedy answer to each row, without outer white space.

    A tuned model is asked as its contract says; any other by its own template.

    Raises:
        InputError: no such model, or its template refuses a row.
    """
    subject = resolve_spec(spec)
    runtime = subject.open()
    try:
        with log.progress(f"answers of {spec}", len(rows)) as bar:
            asked = _encode(LoadedModel(subject, runtime), rows, asking)
            answers: list[str] = []
            for at in range(0, len(rows), TOGETHER):
                some = asked.prompts[at : at + TOGETHER]
                found = runtime.generate(some, asking.max_new_tokens, asked.stops)
                answers += [asked.decode(ids).strip() for ids in found]
                bar.update(len(some))
    finally:
        runtime.close()
    return answers


@dataclass(frozen=True)
class _Asked:
    """Token ids of each prompt, the ids that end an answer, and what turns ids into text."""

    prompts: list[list[int]]
    stops: list[int]
    decode: Callable[[Sequence[int]], str]


def _encode(model: LoadedModel, rows: Sequence[Row], asking: Asking) -> _Asked:
    subject = model.subject
    if subject.format == "hf":
        section = DataSection(train="-", max_length=LENGTHS, system=asking.system)
        encoder = encoder_of(subject.contract or subject.folder, section, read_clock(subject))
        if asking.system is not None:
            encoder = replace(encoder, system=asking.system)
        prompts = [encoder.prompt(_answered(row)) for row in rows]
        return _Asked(prompts, list(encoder.stop_ids), encoder.decode_answer)
    system = asking.system
    if system is None and subject.contract is not None:
        system = read_json(subject.contract / CONTRACT, "").get("system")
    prompts = []
    for row in rows:
        turns = [{"role": turn.role, "content": turn.content} for turn in row.prompt]
        if system is not None and turns[0]["role"] != "system":
            turns = [{"role": "system", "content": system}, *turns]
        prompts.append(model.tokenize(model.render(turns)))
    return _Asked(prompts, model.ends, model.runtime.detokenize)


def _answered(row: Row) -> Row:
    """Return a row with an answer, which the encoder leaves out of the prompt."""
    if row.is_answered:
        return row
    return replace(row, messages=(*row.messages, Message("assistant", "-")))
