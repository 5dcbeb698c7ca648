"""Paraphrases: a seed row's prompt in other words, with the seed row's answer."""

from __future__ import annotations

from collections.abc import Sequence

from edgetune.synthesize.draft import Draft, Job, Work, replace_asked
from edgetune.synthesize.tasks.new_prompt import ask_for_prompts
from edgetune.synthesize.template import Template

TEMPLATE = """\
Rewrite the following request in other words. Keep its meaning and every name and number in it.
Write the new request only.

Request: {{ prompt }}
"""


def write(work: Work, jobs: Sequence[Job]) -> list[Draft]:
    """Return each seed with another prompt of the same meaning."""
    template = work.template or Template(TEMPLATE, "paraphrases")
    return [
        Draft(
            job.number,
            job.row.where,
            replace_asked(job.row.prompt, reply.text),
            job.row.answer,
            fault=reply.fault or ("" if reply.text else "the prompt is empty"),
        )
        for job, reply in zip(jobs, ask_for_prompts(work, jobs, template), strict=True)
    ]
