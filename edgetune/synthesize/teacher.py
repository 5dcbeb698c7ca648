"""Teachers: a model in torch, a GGUF file in llama.cpp, or a server, asked in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from edgetune.artifact import ENTRY, hash_source, load_artifact, verify_artifact
from edgetune.data.contract import encoder_of
from edgetune.data.encode import Encoder
from edgetune.data.rows import Message, Row
from edgetune.distill.teacher import identify
from edgetune.errors import InputError, Unsupported
from edgetune.models.hardware import choose_device, count_threads
from edgetune.models.ref import ModelRef
from edgetune.models.resolve import resolve_model
from edgetune.models.shape import read_shape
from edgetune.recipe import DataSection
from edgetune.runtimes import Runtime, open_runtime
from edgetune.runtimes.gguf_header import open_gguf
from edgetune.runtimes.likelihood import Request, score_continuations
from edgetune.runtimes.sampling import Sampling

CUT_OFF = "the text is cut off at max_new_tokens"
EMPTY = "the answer is empty"


@dataclass(frozen=True)
class Question:
    """A conversation to be continued.

    Attributes:
        turns: what was said; the last turn is the user's or a tool's.
        number: decides the random draws.
        temperature: 0 is greedy.
    """

    turns: tuple[Message, ...]
    number: int
    temperature: float


@dataclass(frozen=True)
class Reply:
    """What a teacher said, without outer white space.

    Attributes:
        text: empty where there is a fault.
        fault: why there is no text to use.
        likelihood: mean log probability of its tokens in nats, where that was asked for.
    """

    text: str
    fault: str = ""
    likelihood: float | None = None


@dataclass
class Usage:
    """What a teacher was asked so far: requests, and tokens read and written."""

    calls: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0

    def add(self, other: Usage) -> None:
        """Count what ``other`` counts, too."""
        self.calls += other.calls
        self.prompt_tokens += other.prompt_tokens
        self.generated_tokens += other.generated_tokens


class Teacher(Protocol):
    """Something that answers conversations.

    Attributes:
        origin: what every row it writes says of it, such as its name and hash.
        usage: since it was opened, or since the last :meth:`Usage` was put in its place.
    """

    origin: dict[str, str]
    usage: Usage

    def ask(self, questions: Sequence[Question], scored: bool = False) -> list[Reply]:
        """Return a reply to each question; ``scored``: with its likelihood, where it is known."""

    def with_system(self, prompt: Sequence[Message]) -> tuple[Message, ...]:
        """Return a row's prompt as clients send it: with the recipe's system message."""

    def close(self) -> None:
        """Let go of what it holds."""


class SamplingRuntime(Runtime, Protocol):
    """A runtime that also draws at random: torch and llama.cpp."""

    def sample(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: Sequence[int],
        sampling: Sampling,
    ) -> list[list[int]]:  # fmt: skip
        """Return each prompt's continuation, drawn at random."""


class LocalTeacher:
    """A model or a file in its runtime; ``encoder`` is that of a model's tokenizer and template."""

    def __init__(
        self, runtime: Runtime, encoder: Encoder | None, data: DataSection,
        longest: int, top_p: float, origin: dict[str, str],
    ) -> None:  # fmt: skip
        self.origin, self.usage = origin, Usage()
        self.context: int | None = None  # positions that the model was made for, where known
        self._runtime = cast(SamplingRuntime, runtime)
        self._encoder = replace(encoder, system=None) if encoder else None
        self._system = encoder.system if encoder else data.system
        self._longest, self._top_p = longest, top_p
        self._stops = list(encoder.stop_ids) if encoder else runtime.stop_ids()

    def with_system(self, prompt: Sequence[Message]) -> tuple[Message, ...]:
        return add_system(prompt, self._system)

    def ask(self, questions: Sequence[Question], scored: bool = False) -> list[Reply]:
        replies: dict[int, Reply] = {}
        prompts: dict[int, list[int]] = {}
        for place, question in enumerate(questions):
            try:
                prompts[place] = self._encode(question)
            except InputError as error:
                replies[place] = _not_asked(error)
        by_heat: dict[float, list[int]] = {}
        for place in prompts:
            by_heat.setdefault(questions[place].temperature, []).append(place)
        for heat, places in by_heat.items():
            asked = [prompts[place] for place in places]
            seeds = tuple(questions[place].number for place in places)
            for place, ids in zip(places, self._generate(asked, heat, seeds), strict=True):
                replies[place] = self._reply(prompts[place], ids, scored)
        self.usage.calls += len(prompts)
        self.usage.prompt_tokens += sum(map(len, prompts.values()))
        return [replies[place] for place in range(len(questions))]

    def choose(self, questions: Sequence[Question], options: Sequence[str]) -> list[Reply]:
        """Return the option that is the likeliest beginning of the reply to each question.

        Options are compared by the sum of their tokens' log probabilities, so they should have as
        many tokens each. Each reply has the mean of those of its tokens.

        Args:
            questions: whose temperature says nothing here.
            options: texts.
        """
        given = [self._runtime.tokenize(option) for option in options]
        requests: list[Request] = []
        asked: list[int] = []
        replies: dict[int, Reply] = {}
        for place, question in enumerate(questions):
            try:
                prompt = self._encode(question)
            except InputError as error:
                replies[place] = _not_asked(error)
                continue
            asked.append(place)
            requests += [(prompt, ids) for ids in given]
        scores = [value for value, _ in score_continuations(self._runtime, requests)]
        for number, place in enumerate(asked):
            own = scores[number * len(options) : (number + 1) * len(options)]
            best = own.index(max(own))
            replies[place] = Reply(options[best], likelihood=own[best] / len(given[best]))
        self.usage.calls += len(asked)
        self.usage.prompt_tokens += sum(len(ids) for ids, _ in requests[:: len(options)])
        return [replies[place] for place in range(len(questions))]

    def close(self) -> None:
        self._runtime.close()

    def _encode(self, question: Question) -> list[int]:
        """Return a prompt's tokens.

        Raises:
            InputError: the template refuses it, or it is longer than the model's context.
        """
        if self._encoder is None:
            turns = [{"role": m.role, "content": m.content} for m in question.turns]
            ids = self._runtime.tokenize(self._runtime.render(turns))
        else:
            row = Row((*question.turns, Message("assistant", "-")), None, "synthesize")
            ids = self._encoder.prompt(row)
        if self.context is not None and len(ids) >= self.context:
            raise InputError(
                f"{len(ids):,} tokens are more than its context of {self.context:,} holds"
            )
        return ids

    def _generate(
        self, prompts: list[list[int]], heat: float, seeds: tuple[int, ...]
    ) -> list[list[int]]:
        if heat == 0:
            return self._runtime.generate(prompts, self._longest, self._stops)
        sampling = Sampling(heat, seeds, self._top_p)
        return self._runtime.sample(prompts, self._longest, self._stops, sampling)

    def _reply(self, prompt: list[int], ids: list[int], scored: bool) -> Reply:
        self.usage.generated_tokens += len(ids)
        if len(ids) >= self._longest:
            return Reply("", CUT_OFF)
        decode = self._encoder.decode_answer if self._encoder else self._runtime.detokenize
        text = decode(ids).strip()
        if not text:
            return Reply("", EMPTY)
        return Reply(text, likelihood=self._score(prompt, ids) if scored else None)

    def _score(self, prompt: list[int], ids: list[int]) -> float:
        """Return the mean log probability of an answer's tokens, in nats."""
        logits_NV = self._runtime.logits([*prompt, *ids[:-1]])[len(prompt) - 1 :]
        logits_NV = logits_NV.astype(np.float64)
        logits_NV -= logits_NV.max(axis=1, keepdims=True)
        sums_N = np.log(np.exp(logits_NV).sum(axis=1))
        return float((logits_NV[np.arange(len(ids)), ids] - sums_N).mean())


def _not_asked(error: InputError) -> Reply:
    return Reply("", f"the teacher cannot be asked: {error.what}")


def add_system(prompt: Sequence[Message], system: str | None) -> tuple[Message, ...]:
    """Return a prompt with a system message, where there is one and it has none."""
    if system is None or prompt[0].role == "system":
        return tuple(prompt)
    return (Message("system", system), *prompt)


def open_local(
    name: str, data: DataSection, device: str, longest: int, top_p: float
) -> LocalTeacher:
    """Load a teacher: a GGUF file, what tune, distill or merge made, or a Hugging Face folder.

    Raises:
        InputError: nothing of these, or damaged.
    """
    path = Path(name)
    where = choose_device(device)
    if path.suffix == ".gguf":
        try:
            runtime = open_runtime(path, device=where)
        except Unsupported:  # a build without CUDA: the CPU says the same, more slowly
            runtime = open_runtime(path)
        origin = {"teacher": path.name, "sha256": hash_source(path)[:32]}
        teacher = LocalTeacher(runtime, None, data, longest, top_p, origin)
        keys = open_gguf(path).keys
        stated = keys.get(f"{keys.get('general.architecture')}.context_length")
        teacher.context = int(stated) if stated else None
        return teacher
    ref, contract = find_model(name)
    runtime = open_runtime(ref, count_threads(), where)
    origin = {"teacher": path.name or name, "sha256": identify(ref, "")}
    encoder = encoder_of(contract, data)
    teacher = LocalTeacher(runtime, encoder, data, longest, top_p, origin)
    teacher.context = read_shape(ref.base).context
    return teacher


def find_model(name: str) -> tuple[ModelRef, Path]:
    """Return a model and the folder of its contract or tokenizer.

    Raises:
        InputError: no model, or a damaged artifact.
    """
    path = Path(name)
    if (path / ENTRY).is_file():
        artifact = load_artifact(path)
        if faults := verify_artifact(artifact):
            raise InputError(f"this artifact is damaged: {faults[0]}", where=name)
        model = artifact.facts.get("model") or artifact.facts.get("student")
        if model:
            return ModelRef.from_json(model, artifact.path), artifact.contract_folder
    folder = resolve_model(name)
    return ModelRef(folder), folder
