"""synthesize: teacher + seed rows → rows that it wrote and validators accepted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetune.artifact import SCRATCH, Artifact
from edgetune.errors import InputError
from edgetune.facts import SynthesizeFacts
from edgetune.log import Log, clock, counted
from edgetune.recipe import Sections
from edgetune.recipe.synthesis import SynthesizeSection
from edgetune.synthesize.address import check_teacher
from edgetune.synthesize.batches import Batch, BatchStore, total_usage
from edgetune.synthesize.draft import Job, Work
from edgetune.synthesize.endpoint import SPENT, EndpointTeacher
from edgetune.synthesize.rows import write_rows
from edgetune.synthesize.seeds import Seeds, load_seeds
from edgetune.synthesize.tasks import TASKS
from edgetune.synthesize.teacher import Teacher, Usage, open_local
from edgetune.synthesize.template import Template
from edgetune.synthesize.validators import VALIDATORS, Check, Scene, accept, validate


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> SynthesizeFacts:
    """Have a teacher write rows about seeds, and keep what the validators accept.

    Writes:
        ``rows.jsonl`` (messages, or prompt, chosen and rejected; each with its origin) and
        ``rejected.jsonl`` (the same with the reason).
    """
    section = sections.synthesize
    check_teacher(section, sections.data)

    if sections.data.confidential:
        log.warn(
            "seeds are confidential, and so is what is written about them: name this folder with "
            "confidential: true, too"
        )

    # 1. The seeds, and one job per row to be written.
    seeds = load_seeds(sections, out, log)
    jobs = seeds.jobs(section.count, sections.seed)
    parts = [
        jobs[first : first + section.batch_size]
        for first in range(0, len(jobs), section.batch_size)
    ]

    # 2. What earlier processes finished; the teacher is opened for the rest.
    store = BatchStore(out / SCRATCH / "batches")
    batches = store.read(len(parts))
    log.say(_describe(section, seeds, jobs, len(batches)))
    team = _open_team(sections, seeds, total_usage(batches).calls)
    for batch in batches:
        accept(team.checks, batch.accepted)

    # 3. Batches: written, validated, saved. The first says what the rest will take.
    with log.progress("rows", len(jobs)) as bar:
        bar.skip(sum(len(batch.drafts) for batch in batches))
        for number in range(len(batches), len(parts)):
            if batches and SPENT in batches[-1].reasons:
                break
            batches.append(_write_batch(team, parts[number]))
            store.write(number, batches[-1])
            if number == 0:
                log.say(_project(section, batches[0], len(jobs)))
            accepted = sum(len(batch.accepted) for batch in batches)
            bar.update(len(parts[number]), accepted=f"{accepted}")
    team.close()

    # 4. Rows and rejected rows, in the order of the jobs.
    return _finish(sections, team, seeds, batches, out, log)


@dataclass(frozen=True)
class _Team:
    """The loaded teacher and checker, with the checks that may ask them."""

    work: Work
    checker: Teacher
    checks: list[Check]

    def usage(self) -> Usage:
        """What both were asked so far."""
        found = Usage()
        found.add(self.work.teacher.usage)
        if self.checker is not self.work.teacher:
            found.add(self.checker.usage)
        return found

    def reset(self) -> None:
        """Count from 0."""
        self.work.teacher.usage = self.checker.usage = Usage()
        if self.checker is not self.work.teacher:
            self.checker.usage = Usage()

    def close(self) -> None:
        """Let go of both."""
        self.work.teacher.close()
        if self.checker is not self.work.teacher:
            self.checker.close()


def _open_team(sections: Sections, seeds: Seeds, spent: int) -> _Team:
    section, data = sections.synthesize, sections.data
    validators, texts = section.validators, section.template
    teacher: Teacher
    if section.endpoint:
        teacher = EndpointTeacher(section, data, spent)
    else:
        assert section.teacher is not None  # check_teacher was asked
        teacher = open_local(
            section.teacher, data, sections.device, section.max_new_tokens, section.top_p
        )
    checker = teacher
    if validators.checker is not None:
        checker = open_local(
            validators.checker, data, sections.device, section.max_new_tokens, section.top_p
        )
    ask = Template(texts.ask, "synthesize.template.ask") if texts.ask else None
    check = Template(texts.check, "synthesize.template.check") if texts.check else None
    work = Work(section, teacher, ask, seeds.rows, sections.seed)
    scene = Scene(section, seeds.known, seeds.held_out, teacher, checker, check, sections.seed)
    checks = [row.make(scene) for row in VALIDATORS.values() if row.is_on(validators)]
    return _Team(work, checker, checks)


def _write_batch(team: _Team, jobs: Sequence[Job]) -> Batch:
    began = time.monotonic()
    team.reset()
    drafts = TASKS[team.work.section.task].write(team.work, jobs)
    reasons = validate(team.checks, drafts)
    return Batch(drafts, reasons, team.usage(), round(time.monotonic() - began, 3))


def _describe(section: SynthesizeSection, seeds: Seeds, jobs: Sequence[Job], done: int) -> str:
    """Say what is going to be asked, before it is."""
    who = section.endpoint or section.teacher
    calls = TASKS[section.task].calls * len(jobs)
    more = section.validators.samples if section.validators.agreement else 0
    more += int(section.validators.round_trip)
    text = f"{section.task}: {counted(len(jobs), 'row')} of {counted(len(seeds.rows), 'seed')}, "
    text += f"{counted(calls, 'request')} to {who}"
    if more:
        text += f" and at most {counted(more * len(jobs), 'request')} of validators"
    return f"{text}; {counted(done, 'batch', 'batches')} done already" if done else text


def _project(section: SynthesizeSection, first: Batch, rows: int) -> str:
    """Say what all rows will take, by what the first batch took."""
    times = rows / max(1, len(first.drafts))
    tokens = first.usage.prompt_tokens + first.usage.generated_tokens
    text = (
        f"by the first batch: {counted(round(first.usage.calls * times), 'request')}, "
        f"{counted(round(tokens * times), 'token')}, {clock(first.seconds * times)}"
    )
    if (cost := _cost(section, first.usage)) is not None:
        text += f", cost {cost * times:.2f}"
    return f"{text}; {len(first.accepted)} of {len(first.drafts)} rows accepted"


def _cost(section: SynthesizeSection, usage: Usage) -> float | None:
    if section.price_per_million_tokens is None:
        return None
    tokens = usage.prompt_tokens + usage.generated_tokens
    return section.price_per_million_tokens * tokens / 1e6


def _finish(
    sections: Sections, team: _Team, seeds: Seeds, batches: list[Batch], out: Path, log: Log
) -> SynthesizeFacts:
    section, work, usage = sections.synthesize, team.work, total_usage(batches)
    template = work.template.version if work.template else "own"
    origin = {**work.teacher.origin, "task": section.task, "template": template}
    rejected = write_rows(batches, origin, out)
    accepted = sum(len(batch.accepted) for batch in batches)
    asked = sum(len(batch.drafts) for batch in batches)
    yields = ", ".join(f"{reason} {count:,}" for reason, count in rejected.most_common())
    log.say(
        f"{accepted:,} of {counted(asked, 'row')} accepted ({accepted / max(1, asked):.1%})"
        + (f"; rejected: {yields}" if yields else "")
    )
    ended = SPENT if rejected[SPENT] else None
    if ended:
        log.warn(f"{ended}: {counted(rejected[SPENT], 'row')} of the last batch and all after it")
    if not accepted:
        raise InputError(
            f"no row was accepted ({yields})",
            where=str(out),
            hint="rejected.jsonl there holds each with its reason; change the validators or the "
            "teacher",
        )
    cost = _cost(section, usage)
    return SynthesizeFacts(
        task=section.task,
        teacher=work.teacher.origin,
        seeds=len(seeds.rows),
        seeds_from=section.seeds_from,
        failures=None if seeds.failures is None else len(seeds.failures),
        validation_rows=seeds.validation,
        asked=asked,
        accepted=accepted,
        rejected=dict(rejected.most_common()),
        template=template,
        calls=usage.calls,
        prompt_tokens=usage.prompt_tokens,
        generated_tokens=usage.generated_tokens,
        seconds=round(sum(batch.seconds for batch in batches), 1),
        cost=None if cost is None else round(cost, 6),
        ended_early=ended,
        confidential=bool(sections.data.confidential) or None,
    )
