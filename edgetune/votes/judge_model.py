"""A judge model votes on a page: a local model or a named endpoint, each comparison in both orders.

Its votes say that they are a model's; they are counted by themselves, never with those of people.
Both orders are asked since such models prefer a side (Zheng et al. 2023, arXiv 2306.05685).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.data.rows import Message
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import DataSection, SynthesizeSection
from edgetune.synthesize.teacher import LocalTeacher, Question, Reply, Teacher, open_local
from edgetune.votes.ballots import MODEL, Ballot, Vote
from edgetune.votes.page import Key

REPLY, LIKELIHOOD = "reply", "likelihood"
#: What is compared by likelihood: two verdicts of as many tokens; a tie has others.
OPTIONS = ("[[1]]", "[[2]]")
REPLY_TOKENS = 256  # a model may reason before its verdict
NO_VERDICT = "it ends with no verdict"
TOGETHER = 16  # questions between two lines of progress

ASK = """\
Two assistants answered the conversation below. Decide which answer is better for the person who \
asked: correct, complete, to the point. The order of the answers and their length say nothing.

<conversation>
{conversation}
</conversation>

<answer_1>
{first}
</answer_1>

<answer_2>
{second}
</answer_2>

End with one line that says only: [[1]] if answer 1 is better, [[2]] if answer 2 is better, \
[[tie]] if they are equally good, [[bad]] if both are bad."""

_HINTS = {
    REPLY: "it must end with [[1]], [[2]], [[tie]] or [[bad]]: name a larger model, or ask a local "
    "one which of [[1]] and [[2]] is likelier by --judge-by likelihood",
    LIKELIHOOD: "name another model",
}
_VERDICT = re.compile(r"\[\[\s*(1|2|tie|bad)\s*\]\]", re.IGNORECASE)
_BARE = re.compile(r"\W*(?:answer[ _]?)?(1|2|tie|bad)\W*", re.IGNORECASE)
_CHOICES = {"1": "first", "2": "second", "tie": "tie", "bad": "bad"}


@dataclass(frozen=True)
class Judge:
    """Which model votes.

    Attributes:
        name: model folder, GGUF file, hub id, or the address of an OpenAI-compatible server.
        model: the server's name of the model.
        key_env: environment variable that holds the server's key.
        by: ``reply``, what it writes; ``likelihood``, which of :data:`OPTIONS` is likelier as the
            reply, for local models too small to follow the request.
    """

    name: str
    model: str | None = None
    key_env: str | None = None
    by: str = REPLY

    @property
    def is_endpoint(self) -> bool:
        """Whether it is a server, which is sent the rows."""
        return self.name.startswith(("http://", "https://"))

    @property
    def title(self) -> str:
        """What its votes call it."""
        return self.model or self.name if self.is_endpoint else Path(self.name).name


def open_judge(judge: Judge) -> Teacher:
    """Load a judge model, or make ready to ask an endpoint.

    Raises:
        InputError: no such model, an endpoint without a model's name, or one whose likelihoods are
            asked for.
    """
    if judge.is_endpoint and judge.by == LIKELIHOOD:
        raise InputError(
            "an endpoint gives no likelihoods", where=judge.name, hint="leave out --judge-by"
        )
    data = DataSection(train="-")
    if not judge.is_endpoint:
        return open_local(judge.name, data, "cpu", REPLY_TOKENS, 1.0)
    from edgetune.synthesize.endpoint import EndpointTeacher

    if not judge.model:
        raise InputError(
            "the endpoint's model has no name", where=judge.name, hint="--judge-model NAME"
        )
    section = SynthesizeSection.model_validate(
        {
            "endpoint": judge.name, "model": judge.model, "key_env": judge.key_env,
            "max_new_tokens": REPLY_TOKENS,
        }
    )  # fmt: skip
    return EndpointTeacher(section, data)


def ask_judge(
    judge: Judge, teacher: Teacher, key: Key, items: Sequence[Mapping[str, Any]], log: Log
) -> Ballot:
    """Return a judge model's votes on every comparison of a page, in both orders."""
    name = judge.title
    how = "" if judge.by == REPLY else f" {judge.by}"
    digest = hashlib.sha256(f"{judge.name} {teacher.origin}{how}".encode()).hexdigest()[:16]
    ballot = Ballot(name, digest, MODEL)
    orders = [(number, swapped) for number in range(len(items)) for swapped in (False, True)]
    faults: Counter[str] = Counter()
    with log.progress(f"votes of {name}", len(orders)) as bar:
        for at in range(0, len(orders), TOGETHER):
            some = orders[at : at + TOGETHER]
            questions = [
                Question(teacher.with_system(write_question(items[number], swapped)), number, 0.0)
                for number, swapped in some
            ]
            for (number, swapped), (choice, fault) in zip(
                some, _choose(judge, teacher, questions), strict=True
            ):
                if choice is None:
                    ballot.unreadable += 1
                    faults[fault] += 1
                else:
                    ballot.votes[number, swapped] = Vote(number, choice, swapped)
            bar.update(len(some))
    if not ballot.votes:
        ((fault, count),) = faults.most_common(1)
        raise InputError(
            f"none of {len(orders)} replies of the judge model is a vote; of {count}: {fault}",
            where=judge.name,
            hint=_HINTS[judge.by],
        )
    return ballot


def _choose(
    judge: Judge, teacher: Teacher, questions: Sequence[Question]
) -> list[tuple[str | None, str]]:
    """Return the choice of each request, or none and why."""
    if judge.by == LIKELIHOOD:
        assert isinstance(teacher, LocalTeacher)
        replies = teacher.choose(questions, OPTIONS)
    else:
        replies = teacher.ask(questions)
    return [(read_verdict(reply), reply.fault or NO_VERDICT) for reply in replies]


def write_question(item: Mapping[str, Any], swapped: bool) -> tuple[Message, ...]:
    """Return the request for one comparison."""
    first, second = reversed(item["answers"]) if swapped else item["answers"]
    turns = "\n".join(f"{role}: {text}" for role, text in item["turns"])
    text = ASK.format(conversation=turns, first=first, second=second)
    return (Message("user", text),)


def read_verdict(reply: Reply) -> str | None:
    """Return the choice that a reply ends with, none where it is no vote."""
    found = _VERDICT.findall(reply.text)
    if found:
        return _CHOICES[found[-1].lower()]
    lines = reply.text.strip().splitlines()
    bare = _BARE.fullmatch(lines[-1]) if lines else None
    return _CHOICES[bare[1].lower()] if bare else None
