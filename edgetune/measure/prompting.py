"""Prompts of untouched models against the tuned one: right answers, and what a request costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgetune.data.encode import Encoder
from edgetune.data.examples import Examples
from edgetune.data.rows import Message, Row
from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.facts import Measurement, PromptedModel, PromptingFacts
from edgetune.log import Log
from edgetune.measure.devices import Devices
from edgetune.measure.run import CPU_ALONE, make_job, run_worker
from edgetune.measure.statistics import Estimate, mean, paired_difference, percentile, proportion
from edgetune.measure.subject import Subject
from edgetune.measure.workers import Workers
from edgetune.models.hardware import count_threads
from edgetune.recipe import BenchSection, PromptingSection

TUNED = "tuned"


@dataclass(frozen=True)
class Asked:
    """A model that is asked, with what turns rows into its tokens.

    Attributes:
        part: ``base``, ``larger`` or ``tuned``.
        subject: the model.
        encoder: with its own tokenizer and template.
        context: positions it was made for; none where it has no limit.
    """

    part: str
    subject: Subject
    encoder: Encoder
    context: int | None


@dataclass(frozen=True)
class Questions:
    """Answered test rows that all models are asked, and the examples of train for them."""

    rows: Sequence[Row]
    examples: Examples


@dataclass(frozen=True)
class Kind:
    """A kind of prompt: how many examples, and whether with the recipe's system prompt."""

    shots: int
    system: str | None

    @property
    def name(self) -> str:
        """As the report calls it."""
        examples = f"{self.shots} example{'s' * (self.shots != 1)}" if self.shots else "zero-shot"
        return f"{examples}, system prompt" if self.system else examples


@dataclass(frozen=True)
class Prompts:
    """The prompts of a kind for all rows, and how many have fewer examples than wanted."""

    ids: list[list[int]]
    cut: int


def list_kinds(section: PromptingSection) -> list[Kind]:
    """Return the kinds of prompts that a recipe asks for."""
    systems = [None, section.system] if section.system else [None]
    return [Kind(shots, system) for shots in dict.fromkeys(section.shots) for system in systems]


def write_prompt(row: Row, examples: Sequence[Row], system: str | None) -> Row:
    """Return the row with examples as earlier turns of its conversation.

    A row's own system message stays, after the system prompt; those of examples are left out.
    """
    own = [turn.content for turn in row.messages if turn.role == "system"]
    first = "\n\n".join([system, *own] if system else own)
    turns = [Message("system", first)] if first else []
    for example in (*examples, row):
        turns += [turn for turn in example.messages if turn.role != "system"]
    return replace(row, messages=tuple(turns))


def make_prompts(asked: Asked, questions: Questions, kind: Kind, new_tokens: int) -> Prompts:
    """Return the prompts of a kind, with as many examples as the model's context holds.

    Raises:
        InputError: the model's template refuses such a conversation.
    """
    found, cut = [], 0
    for row in questions.rows:
        chosen = questions.examples.choose(row, kind.shots)
        ids = asked.encoder.prompt(write_prompt(row, chosen, kind.system))
        while chosen and asked.context is not None and len(ids) + new_tokens > asked.context:
            chosen = chosen[1:]  # the least similar
            ids = asked.encoder.prompt(write_prompt(row, chosen, kind.system))
        cut += len(chosen) < kind.shots
        found.append(ids)
    return Prompts(found, cut)


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
    if not questions.rows:
        log.warn("bench.prompting: no test row has an answer of its own, so no prompt is measured")
        return None
    scratch.mkdir(parents=True, exist_ok=True)
    rows = questions.rows
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
                    hits[name] = _find_hits(asked, rows, result["kinds"][kind.name])
                    measurements = _measure(hits[name], prompts, result, kind.name, job)
                    one = replace(one, measurements=measurements, cut=prompts.cut)
                found.append(one)
                _tell(one, len(rows), log)
    compared = _compare(found, hits, len(rows))
    if verdict := was_tuning_needed(compared):
        log.say(verdict)
    return compared


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
    result = scratch / f"prompting-{asked.part}.json"
    job = {**job, "kinds": str(file), "result": str(result)}
    done = known == text and result.is_file()
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8")) if done else {}
    if found.get("job") != job:
        run_worker(asked.subject, job, scratch, workers)
        found = json.loads(result.read_text(encoding="utf-8"))
    return found


def _find_hits(asked: Asked, rows: Sequence[Row], found: Mapping[str, Any]) -> list[bool]:
    answers = [asked.encoder.decode_answer(ids) for ids in found["answers"]]
    wanted = [asked.encoder.answer_text(row).strip() for row in rows]
    return [answer.strip() == one for answer, one in zip(answers, wanted, strict=True)]


def _measure(
    hits: Sequence[bool], prompts: Prompts, result: Mapping[str, Any], kind: str,
    job: Mapping[str, Any],
) -> list[Measurement]:  # fmt: skip
    found = result["kinds"][kind]
    tokens = [
        len(prompt) + len(answer)
        for prompt, answer in zip(prompts.ids, found["answers"], strict=True)
    ]
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
    answer = (
        "Tuning was needed" if low > 0
        else "Tuning was not needed: the prompt is better" if high < 0
        else "Tuning made no significant difference to the best prompt"
    )  # fmt: skip
    exact, tokens, ms = ([one.measurements[at].value for one in (tuned, best)] for at in range(3))
    return (
        f"{answer}. The tuned model answers {exact[0]:.1%} of {found.asked:,} test rows exactly, "
        f"the best prompt ({best.name}) {exact[1]:.1%}: "
        f"{100 * best.difference['difference']:+.1f} points, 95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f}. A request takes {tokens[0]:,.0f} tokens and {ms[0]:,.0f} ms, by the "
        f"prompt {tokens[1]:,.0f} and {ms[1]:,.0f} ms."
    )
