"""New prompts from what a teacher said: shared by the tasks that write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgetune.data.rows import Message
from edgetune.synthesize.draft import Job, Work, asked_of
from edgetune.synthesize.teacher import Reply
from edgetune.synthesize.template import Template

# What models put around a text that they were asked to write alone.
_LABEL = re.compile(
    r"^(?:\d+[.)]\s+|[-*]\s+|(?:new |rewritten |paraphrased? ?)?"
    r"(?:prompt|request|message|instruction|paraphrase):\s*)",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "`": "`"}


def ask_for_prompts(work: Work, jobs: Sequence[Job], template: Template) -> list[Reply]:
    """Return a prompt for each job, without quotes or labels around it."""
    questions = [
        work.question(
            [
                Message(
                    "user",
                    template.render(
                        prompt=asked_of(job.row), answer=job.row.answer, examples=work.examples(job)
                    ),
                )
            ],
            job,
            "prompt",
        )
        for job in jobs
    ]
    return [
        Reply("", reply.fault) if reply.fault else Reply(strip_wrapping(reply.text))
        for reply in work.teacher.ask(questions)
    ]


def strip_wrapping(text: str) -> str:
    """Return a text without the number, label or quotes that a model put around it."""
    text = _LABEL.sub("", text.strip()).strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        return text[1:-1].strip()
    return text
