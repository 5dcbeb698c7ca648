"""Answers: the teacher answers the seed rows' prompts.

(Sequence-level distillation: Kim and Rush 2016, arXiv 1606.07947, section 3.2.)
"""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.data.rows import Message
from edgetune.synthesize.draft import Draft, Job, Work, asked_of


def write(work: Work, jobs: Sequence[Job]) -> list[Draft]:
    """Return each seed's prompt with the teacher's answer."""
    questions = []
    for job in jobs:
        if work.template is None:
            questions.append(work.answer_question(job.row.prompt, job, "answer"))
        else:
            text = work.template.render(
                prompt=asked_of(job.row), answer=job.row.answer, examples=work.examples(job)
            )
            questions.append(work.question([Message("user", text)], job, "answer"))
    replies = work.teacher.ask(questions)
    return [
        Draft(job.number, job.row.where, job.row.prompt, reply.text, fault=reply.fault)
        for job, reply in zip(jobs, replies, strict=True)
    ]
