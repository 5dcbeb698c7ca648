"""Greedy answers up to the first of some stop texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetune.errors import InputError, nearest
from edgetune.runtimes import Runtime

#: Tokens generated before stop texts are first looked for; doubled each time. A prompt is computed
#: again each time, so a step that grows keeps that below the cost of the answer.
FIRST_STEP = 32
#: Settings of a task's ``generation_kwargs`` that are read; the last three say nothing of greedy
#: decoding.
KNOWN = ("until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k")

#: Ids of a prompt, how many new tokens at most, stop texts.
Job = tuple[list[int], int, list[str]]


def check_greedy(settings: Mapping[str, Any], where: str) -> None:
    """Refuse what is not greedy decoding.

    Raises:
        InputError: sampling, or a setting that is not known.
    """
    if settings.get("do_sample"):
        raise InputError(
            "the task samples its answers; here answers are greedy, so that they can be repeated",
            where=where,
            hint="set do_sample: false and temperature: 0 in the task's generation_kwargs",
        )
    for name in settings:
        if name not in KNOWN:
            raise InputError(
                f"generation setting '{name}' is not supported{nearest(name, KNOWN)}",
                where=where,
                hint=f"those of a task are {', '.join(KNOWN)}",
            )


def generate_until(runtime: Runtime, jobs: Sequence[Job]) -> list[str]:
    """Return the text of each greedy answer; one that holds a stop text may go on after it."""
    stop_ids = runtime.stop_ids()
    answers: list[list[int]] = [[] for _ in jobs]
    texts = [""] * len(jobs)
    open_jobs, step = list(range(len(jobs))), FIRST_STEP
    while open_jobs:
        # Those that have the same number of tokens to go are generated together.
        groups: dict[int, list[int]] = {}
        for number in open_jobs:
            groups.setdefault(min(step, jobs[number][1] - len(answers[number])), []).append(number)
        open_jobs = []
        for count, numbers in groups.items():
            prompts = [[*jobs[number][0], *answers[number]] for number in numbers]
            for number, more in zip(
                numbers, runtime.generate(prompts, count, stop_ids), strict=True
            ):
                answers[number] += more
                texts[number] = runtime.detokenize(answers[number])
                left = jobs[number][1] - len(answers[number])
                stopped = any(stop in texts[number] for stop in jobs[number][2])
                if len(more) == count and left > 0 and not stopped:
                    open_jobs.append(number)
        step *= 2
    return texts


def cut_at(text: str, stops: Sequence[str]) -> str:
    """Return a text up to the first of some stop texts in it."""
    for stop in stops:
        text = text.split(stop)[0]
    return text
