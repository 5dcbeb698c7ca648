"""Whole requests of one model: the answers to several kinds of prompt, and what each costs.

A job of these has the key ``kinds``: a file with the token ids of each kind's prompts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgetune.models.ref import ModelRef
from edgetune.runtimes import Runtime, find_opener


def run_requests(job: dict[str, Any]) -> dict[str, Any]:
    """Return, by kind of prompt, ``answers`` (ids without the prompt) and ``seconds`` of some.

    Args:
        job: ``ref`` or ``model``, ``device``, ``threads``, ``kinds``, ``max_new_tokens`` and
            ``repeats``, how many requests of each kind are timed.
    """
    given = json.loads(Path(job["kinds"]).read_text(encoding="utf-8"))
    model = Path(job["model"]) if "model" in job else ModelRef.from_json(job["ref"], Path())
    opener: Callable[..., Runtime] = find_opener(model)
    if "dtype" in job:
        opener = partial(opener, dtype=job["dtype"])
    runtime = opener(job["threads"], job["device"])
    longest, stop_ids = job["max_new_tokens"], given["stop_ids"]
    found = {}
    for kind, prompts in given["prompts"].items():
        seconds = time_requests(runtime, prompts[: job["repeats"]], longest, stop_ids)
        answers = runtime.generate(prompts, longest, stop_ids)
        found[kind] = {"answers": answers, "seconds": seconds}
    runtime.close()
    return {"kinds": found, "runtime": runtime.name}


def time_requests(
    runtime: Runtime, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int]
) -> list[float]:
    """Return the seconds of each request, to its end token; one before them warms up."""
    found = []
    for prompt in [*prompts[:1], *prompts]:
        began = time.perf_counter()
        for token in runtime.stream(prompt, max_new_tokens):
            if token in stop_ids:
                break
        found.append(time.perf_counter() - began)
    return found[1:]
