"""Prompts of untouched models against the tuned one: right answers, and what a request costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.facts import Measurement, PromptedModel, PromptingFacts
from edgetune.log import Log
from edgetune.measure.devices import Devices
from edgetune.measure.prompts import Asked, Kind, Prompts, Questions, list_kinds, make_prompts
from edgetune.measure.run import CPU_ALONE, make_job, run_worker
from edgetune.measure.statistics import Estimate, mean, paired_difference, percentile, proportion
from edgetune.measure.workers import Workers
from edgetune.models.hardware import count_threads
from edgetune.recipe import BenchSection

TUNED = "tuned"


def measure_prompting(
    models: Sequence[Asked], questions: Questions, section: BenchSection, scratch: Path, log: Log,
    devices: Devices = CPU_ALONE,
) -> PromptingFacts | None:  # fmt: skip
    """Ask each model the same rows by each kind of prompt, the tuned one as it was trained.

    Args:
        models: the tuned one last, where there is one.
        questions: what they are asked.
        section: with ``prompting``.
        scratch: folder of jobs and results; what an interrupted call measured is kept.
        log: gets a line for each.
        devices: Hugging Face models run on the first.

    Returns:
        None where no test row has an answer of its own.
    """
    assert section.prompting is not None
    counted = questions.counted
    if not counted:
        log.warn("bench.prompting: no test row has an answer of its own, so no prompt is measured")
        return None
    scratch.mkdir(parents=True, exist_ok=True)
    found: list[PromptedModel] = []
    hits: dict[str, list[bool]] = {}
    with Workers(section.threads or count_threads()) as workers:
        for asked in models:
            kinds = [Kind(0, None)] if asked.part == TUNED else list_kinds(section.prompting)
            made, refused = _make_kinds(asked, questions, kinds, section.max_new_tokens)
            job = make_job(asked.subject, devices.of(asked.subject.format)[0], section, scratch)
            result = _ask(asked, job, made, scratch, workers) if made else {}
            for kind in kinds:
                name = TUNED if asked.part == TUNED else f"{asked.part}, {kind.name}"
                one = PromptedModel(
                    name, asked.part, kind.shots, kind.system is not None, asked.subject.bytes, [],
                    why=refused.get(kind.name, ""),
                )  # fmt: skip
                if kind.name in made:
                    prompts = made[kind.name]
                    answers = result["kinds"][kind.name]["answers"]
                    hits[name] = _find_hits(asked, questions, answers)
                    pairs = [(prompts.ids[number], answers[number]) for number in counted]
                    measurements = _measure(hits[name], pairs, result, kind.name, job)
                    one = replace(one, measurements=measurements, cut=prompts.cut)
                found.append(one)
                _tell(one, len(counted), log)
    compared = _compare(found, hits, len(counted))
    if verdict := was_tuning_needed(compared):
        log.say(verdict)
    return compared


def read_prompted(models: Sequence[Asked], scratch: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield name and answers, one a row, of each untouched model and prompt that was measured.

    Args:
        models: as :func:`measure_prompting` was given them.
        scratch: folder of its results.
    """
    for asked in models:
        file = _result_path(asked, scratch)
        if asked.part == TUNED or not file.is_file():
            continue
        for kind, found in json.loads(file.read_text(encoding="utf-8"))["kinds"].items():
            yield f"{asked.part}, {kind}", [*map(asked.encoder.decode_answer, found["answers"])]


def _tell(one: PromptedModel, asked: int, log: Log) -> None:
    """Say what was measured of a model and a prompt, or why it was not."""
    if one.why:
        log.warn(f"{one.name} is not measured: {one.why}")
        return
    if one.cut:
        log.warn(
            f"{one.name}: {one.cut:,} of {asked:,} requests have fewer examples: neither the "
            "model's context nor train holds more"
        )
    values = {figure.name: figure.value for figure in one.measurements}
    log.say(
        f"{one.name}: exact match {values['exact_match']:.1%}, {values['request_tokens']:,.0f} "
        f"tokens and {values['request_ms_p50']:,.0f} ms per request"
    )


def _make_kinds(
    asked: Asked, questions: Questions, kinds: Sequence[Kind], new_tokens: int
) -> tuple[dict[str, Prompts], dict[str, str]]:
    """Return the prompts of each kind, and why there are none of the others."""
    made, refused = {}, {}
    for kind in kinds:
        try:
            made[kind.name] = make_prompts(asked, questions, kind, new_tokens)
        except InputError as error:  # a template without a system role
            refused[kind.name] = str(error).splitlines()[0]
    return made, refused


def _ask(
    asked: Asked, job: dict[str, Any], made: Mapping[str, Prompts], scratch: Path, workers: Workers
) -> dict[str, Any]:
    """Return what the worker found, or an earlier call for the same job."""
    work = {
        "prompts": {name: prompts.ids for name, prompts in made.items()},
        "stop_ids": list(asked.encoder.stop_ids),
    }
    file = scratch / f"prompting-{asked.part}.kinds.json"
    text = json.dumps(work)
    known = file.read_text(encoding="utf-8") if file.is_file() else ""
    write_atomic(file, text)
    result = _result_path(asked, scratch)
    job = {**job, "kinds": str(file), "result": str(result)}
    done = known == text and result.is_file()
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8")) if done else {}
    if found.get("job") != job:
        run_worker(asked.subject, job, scratch, workers)
        found = json.loads(result.read_text(encoding="utf-8"))
    return found


def _result_path(asked: Asked, scratch: Path) -> Path:
    return scratch / f"prompting-{asked.part}.json"


def _find_hits(asked: Asked, questions: Questions, answers: Sequence[Sequence[int]]) -> list[bool]:
    """Return whether the answers to the rows that are counted are right."""
    encoder, rows = asked.encoder, questions.rows
    return [
        encoder.decode_answer(answers[number]).strip() == encoder.answer_text(rows[number]).strip()
        for number in questions.counted
    ]


def _measure(
    hits: Sequence[bool], requests: Sequence[tuple[Sequence[int], Sequence[int]]],
    result: Mapping[str, Any], kind: str, job: Mapping[str, Any],
) -> list[Measurement]:  # fmt: skip
    """Return the figures of a kind of prompt; requests are the tokens of prompts and answers."""
    tokens = [len(prompt) + len(answer) for prompt, answer in requests]
    found = result["kinds"][kind]
    seconds = found["seconds"]
    figures = {
        "exact_match": (proportion(sum(hits), len(hits)), ""),
        "request_tokens": (mean(tokens), "tokens"),
        "request_ms_p50": (Estimate(1e3 * percentile(seconds, 50), len(seconds)), "ms"),
    }
    where = {"runtime": result["runtime"], "device": job["device"], "threads": job["threads"]}
    return [
        Measurement(name, one.value, unit, one.n, list(one.ci95) if one.ci95 else None, where)
        for name, (one, unit) in figures.items()
    ]


def _compare(
    found: Sequence[PromptedModel], hits: Mapping[str, Sequence[bool]], asked: int
) -> PromptingFacts:
    """Return all of them with the tuned model's difference to each, and the best prompt.

    The best is that with the most right answers on these very rows, which favours prompting; of
    equals the one with fewer tokens.
    """
    models = []
    for one in found:
        if one.name in hits and TUNED in hits and one.model != TUNED:
            change = paired_difference(hits[TUNED], hits[one.name])
            one = replace(
                one,
                difference={
                    "difference": change.value, "ci95": list(change.ci95 or ()), "n": change.n
                },
            )  # fmt: skip
        models.append(one)
    prompted = [one for one in models if one.model != TUNED and one.measurements]
    best = max(
        prompted,
        key=lambda one: (sum(hits[one.name]), -one.measurements[1].value),
        default=None,
    )
    return PromptingFacts(models, best.name if best else None, asked)


def was_tuning_needed(found: PromptingFacts) -> str:
    """Return the answer in words: the tuned model against the best prompt; empty without both."""
    named = {one.name: one for one in found.models}
    best, tuned = named.get(found.best or ""), named.get(TUNED)
    if best is None or tuned is None or best.difference is None:
        return ""
    low, high = best.difference["ci95"]
    exact = [one.measurements[0].value for one in (tuned, best)]
    return (
        f"{decide(low, high)}. The tuned model answers {exact[0]:.1%} of {found.asked:,} test rows "
        f"exactly, the best prompt ({best.name}) {exact[1]:.1%}: "
        f"{100 * best.difference['difference']:+.1f} points, 95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f}. {tell_cost(tuned, best)}"
    )


def decide(low: float, high: float) -> str:
    """Return whether tuning was needed, by the ends of the interval of what it gave."""
    if low > 0:
        return "Tuning was needed"
    if high < 0:
        return "Tuning was not needed: the prompt is better"
    return "Tuning made no significant difference to the best prompt"


def tell_cost(tuned: PromptedModel, best: PromptedModel) -> str:
    """Return in words what a request costs by the tuned model, and by a prompt."""
    tokens, ms = ([one.measurements[at].value for one in (tuned, best)] for at in (1, 2))
    return (
        f"A request takes {tokens[0]:,.0f} tokens and {ms[0]:,.0f} ms, by the prompt "
        f"{tokens[1]:,.0f} and {ms[1]:,.0f} ms."
    )
