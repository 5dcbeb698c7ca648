"""Preferences: two answers to a prompt, of which one is chosen and the other rejected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgetune.errors import InputError
from edgetune.synthesize.draft import Draft, Job, Work
from edgetune.synthesize.teacher import Reply
from edgetune.synthesize.validators.content import find_content_fault

#: A seed and two answers of the teacher → chosen, rejected, fault.
Rank = Callable[[Work, Job, Reply, Reply], tuple[str, str, str]]


def write(work: Work, jobs: Sequence[Job]) -> list[Draft]:
    """Return a pair for each seed that the teacher's answers give one of."""
    questions = [
        work.answer_question(job.row.prompt, job, f"answer {number}")
        for job in jobs
        for number in (1, 2)
    ]
    replies = work.teacher.ask(questions, scored=work.section.rank == "likelihood")
    drafts = []
    for place, job in enumerate(jobs):
        first, second = replies[2 * place : 2 * place + 2]
        rank = RANKS[_rank_of(work, job)]
        fault = first.fault or second.fault
        chosen, rejected, problem = ("", "", fault) if fault else rank(work, job, first, second)
        drafts.append(
            Draft(job.number, job.row.where, job.row.prompt, chosen, rejected, fault=problem)
        )
    return drafts


def _rank_of(work: Work, job: Job) -> str:
    rank = work.section.rank
    if rank != "auto":
        return rank
    return "reference" if job.row.answer else "validators"


def _by_reference(work: Work, job: Job, first: Reply, second: Reply) -> tuple[str, str, str]:
    """The seed's own answer is chosen, against one that differs from it."""
    wanted = job.row.answer
    if not wanted:
        return "", "", "the seed has no answer"
    other = next((r.text for r in (first, second) if r.text != wanted), None)
    return (wanted, other, "") if other is not None else (wanted, "", "both answers are right")


def _by_validators(work: Work, job: Job, first: Reply, second: Reply) -> tuple[str, str, str]:
    """The one that passes the checks of content is chosen, against one that does not."""
    fails = [bool(find_content_fault(work.section.validators, r.text)) for r in (first, second)]
    if fails == [False, True]:
        return first.text, second.text, ""
    if fails == [True, False]:
        return second.text, first.text, ""
    return first.text, second.text, f"{'neither' if all(fails) else 'both'} of two answers pass"


def _by_likelihood(work: Work, job: Job, first: Reply, second: Reply) -> tuple[str, str, str]:
    """The one whose tokens the teacher gives the higher mean log probability is chosen."""
    if first.text == second.text:
        return first.text, "", "both answers are the same"
    if first.likelihood is None or second.likelihood is None:
        raise InputError(
            "this teacher does not say how likely an answer is",
            where="synthesize.rank",
            hint="use reference or validators, or a model or file as the teacher",
        )
    better, worse = sorted((first, second), key=lambda reply: -(reply.likelihood or 0.0))
    return better.text, worse.text, ""


RANKS: dict[str, Rank] = {
    "reference": _by_reference,
    "validators": _by_validators,
    "likelihood": _by_likelihood,
}
