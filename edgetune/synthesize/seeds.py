"""Seeds: the rows that a teacher is asked about, and those that must not be copied from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgetune.artifact import SCRATCH
from edgetune.data.dataset.open import open_splits
from edgetune.data.load import load_rows
from edgetune.data.reading import Reading, read_parts
from edgetune.data.rows import Message, Row
from edgetune.data.sources import find_sources, open_source
from edgetune.data.split import choose_rows, leave_out
from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.log import Log, counted
from edgetune.recipe import Sections
from edgetune.synthesize.draft import Job, asked_of
from edgetune.synthesize.nearest import choose_nearest
from edgetune.synthesize.tasks import TASKS
from edgetune.synthesize.teacher import Question, open_local

NO_ANSWER = "-"  # what `load_rows` puts where a row has no answer
PER_FAILURE = 8  # seeds per wrong answer where the recipe names no count
ASKED_TOGETHER = 256


@dataclass(frozen=True)
class Seeds:
    """What is written about.

    Attributes:
        rows: the seeds; the answer of one without an answer is empty.
        known: train rows and seeds.
        held_out: validation and test rows.
        failures: validation rows that a model answers wrongly; ``None`` if none was asked.
        validation: how many it was asked.
    """

    rows: list[Row]
    known: list[Row]
    held_out: list[Row]
    failures: list[Row] | None = None
    validation: int | None = None

    def jobs(self, count: int | None, seed: int) -> list[Job]:
        """Return a job per row to be written: a seeded choice of seeds, or all of them in turn."""
        wanted = count or len(self.rows)
        chosen = choose_rows(self.rows, wanted, seed)
        return [Job(number, chosen[number % len(chosen)]) for number in range(wanted)]


def load_seeds(sections: Sections, out: Path, log: Log) -> Seeds:
    """Return the seeds of the recipe.

    Raises:
        InputError: an unreadable source, or no usable seed.
    """
    data, section = sections.data, sections.synthesize
    train, validation, test = _load_splits(sections, out, log)
    rows = train
    if section.prompts is not None:
        source = open_source(section.prompts, "prompts")
        loaded = load_rows(source, data, log, "prompts", answered=False)
        rows = leave_out([_unanswered(row) for row in loaded.rows], train)
    usable = [row for row in rows if row.text is None and row.is_plain]
    if len(usable) < len(rows):
        left = counted(len(rows) - len(usable), "row")
        log.warn(f"{left} left out as seeds: plain texts, or turns with more than text")
    if TASKS[section.task].needs_answers:
        usable = [row for row in usable if row.answer]
    if section.validators.leakage:
        kept = leave_out(usable, [*validation, *test])
        if len(kept) < len(usable):
            left = counted(len(usable) - len(kept), "seed")
            log.say(f"{left} left out: validation or test rows have their prompts")
        usable = kept
    if not usable:
        raise InputError(
            "no seed rows are left for this task",
            where="synthesize.prompts" if section.prompts else "data.train",
            hint="paraphrases need rows with answers; validation and test prompts are left out",
        )
    held_out = [row for row in (*validation, *test) if row.text is None]
    known = [row for row in train if row.text is None]
    if section.prompts is not None:
        known += usable
    if section.seeds_from == "rows":
        return Seeds(usable, known, held_out)
    asked = [row for row in validation if row.text is None and row.is_plain and row.answer]
    failures = _find_failures(sections, asked, out, log)
    chosen = _near_failures(sections, usable, failures)
    return Seeds(chosen, known, held_out, failures, len(asked))


def _load_splits(sections: Sections, out: Path, log: Log) -> tuple[list[Row], list[Row], list[Row]]:
    """Return train, validation and test rows: of a run, those that `prepare` will make of them.

    Train rows that are all prompts are never divided: nothing can be validated with them.
    """
    data = sections.data
    sources = find_sources(data)
    shapes = [named.shape for named, _ in read_parts(sources["train"], Reading(data))]
    if any({"sft", "text"} & set(shape.objectives) for shape in shapes):
        splits = open_splits(sections, {}, out, log)
        train = list({row.where: row for row in splits.train}.values())  # weights repeat rows
        test = [] if splits.test is splits.validation else list(splits.test)
        return train, list(splits.validation), test
    rows = {
        name: load_rows(source, data, log, name, answered=name != "train").rows
        for name, source in sources.items()
    }
    train = [_unanswered(row) for row in rows["train"]]
    train = list(choose_rows(train, data.limit, sections.seed))
    return train, rows.get("validation", []), rows.get("test", [])


def _unanswered(row: Row) -> Row:
    """Return the row with an empty answer where it has none."""
    if row.text is None and row.answer == NO_ANSWER:
        return replace(row, messages=(*row.prompt, Message("assistant", "")))
    return row


def _find_failures(sections: Sections, rows: Sequence[Row], out: Path, log: Log) -> list[Row]:
    """Return those rows that the recipe's ``failures_of`` answers otherwise, asked once."""
    section = sections.synthesize
    assert section.failures_of is not None  # the recipe refuses `from: failures` without it
    if not rows:
        raise InputError("no validation rows to fail on", where="data.validation")
    path = out / SCRATCH / "failures.json"
    if not path.is_file():
        model = open_local(
            section.failures_of, sections.data, sections.device, section.max_new_tokens, 1.0
        )
        wrong: list[int] = []
        with log.progress("validation rows", len(rows)) as bar:
            for first in range(0, len(rows), ASKED_TOGETHER):
                some = rows[first : first + ASKED_TOGETHER]
                asked = [Question(model.with_system(row.prompt), 0, 0.0) for row in some]
                for number, (row, reply) in enumerate(zip(some, model.ask(asked), strict=True)):
                    if reply.text != row.answer.strip():
                        wrong.append(first + number)
                bar.update(len(some))
        model.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(wrong))
    failures = [rows[number] for number in json.loads(path.read_text())]
    log.say(f"{len(failures)} of {counted(len(rows), 'validation row')} are answered wrongly")
    if not failures:
        raise InputError(
            "this model answers every validation row as it is: no failures to go on from",
            where="synthesize.failures_of",
        )
    return failures


def _near_failures(sections: Sections, rows: list[Row], failures: list[Row]) -> list[Row]:
    """Return the seeds that a model's failures lead to; a failing row itself is never one of them.

    For new prompts the failing rows are examples of the manner; elsewhere the seeds are the rows
    nearest to them.
    """
    section = sections.synthesize
    if section.task == "instructions":
        return failures
    count = section.count or PER_FAILURE * len(failures)
    texts, wanted = [asked_of(row) for row in rows], [asked_of(row) for row in failures]
    return [rows[number] for number in choose_nearest(texts, wanted, count)]
