"""Instructions: new prompts in the manner of a few seed rows, which the teacher then answers.

(Self-Instruct: Wang et al. 2023, arXiv 2212.10560, sections 2.2 and 2.3.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgetune.synthesize.draft import Draft, Job, Work, replace_asked
from edgetune.synthesize.tasks.new_prompt import ask_for_prompts
from edgetune.synthesize.template import Template

TEMPLATE = """\
Here are requests that a program is sent:
{% for example in examples %}

Request: {{ example.prompt }}
{% endfor %}

Write one more request of the same kind that differs from all of these. Write the request only.
"""


def write(work: Work, jobs: Sequence[Job]) -> list[Draft]:
    """Return a new prompt for each job, and the teacher's answer to it."""
    template = work.template or Template(TEMPLATE, "instructions")
    drafts = []
    for job, reply in zip(jobs, ask_for_prompts(work, jobs, template), strict=True):
        # Earlier turns belong to the seed: the new prompt begins a conversation.
        kept = [m for m in job.row.prompt if m.role == "system"][:1]
        last = [m for m in job.row.prompt if m.role == "user"][-1:]
        prompt = replace_asked([*kept, *last], reply.text)
        fault = reply.fault or ("" if reply.text else "the prompt is empty")
        drafts.append(Draft(job.number, job.row.where, prompt, "", fault=fault))
    asked = [(draft, job) for draft, job in zip(drafts, jobs, strict=True) if not draft.fault]
    questions = [
        replace(work.answer_question(draft.prompt, job, "answer"), temperature=0.0)
        for draft, job in asked
    ]
    answers = iter(work.teacher.ask(questions))
    done = []
    for draft in drafts:
        if not draft.fault:
            answer = next(answers)
            draft = replace(draft, answer=answer.text, fault=answer.fault)
        done.append(draft)
    return done
