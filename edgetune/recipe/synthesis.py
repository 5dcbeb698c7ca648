"""The recipe's section `synthesize`: who writes rows, of what, and what is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, create_model, model_validator

from edgetune.recipe.section import Count, PathText, Positive, Section
from edgetune.synthesize.tasks import TASKS

if TYPE_CHECKING:
    TaskName = str
    _From = Section
else:
    TaskName = Literal[tuple(TASKS)]
    # `from` is a keyword of Python, so that no class body can declare the field.
    _From = create_model(
        "_From",
        __base__=Section,
        **{
            "from": (
                Literal["rows", "failures"],
                Field(
                    "rows",
                    description="rows: seeds are the train rows, or synthesize.prompts; failures: "
                    "those nearest to the validation rows that failures_of answers wrongly",
                ),
            )
        },
    )


class Validators(Section):
    """What a written row must pass; each is off where it is null or false."""

    json_schema: PathText | None = Field(
        None, description="file of a JSON schema that every answer is valid under"
    )
    regex: str | None = Field(
        None, description="regular expression that is found in every answer (^…$ matches all of it)"
    )
    min_characters: Count = Field(1, description="shortest answer")
    max_characters: Count | None = Field(None, description="longest answer")
    labels: bool = Field(
        False, description="the answer is one that a train row has: for classification"
    )
    language: str | None = Field(
        None, description="ISO 639-1 code of the language that prompts are in, such as en"
    )
    duplicate: bool = Field(
        True, description="reject what a seed row or an earlier written row says already"
    )
    leakage: bool = Field(True, description="reject prompts that validation or test rows have")
    similarity: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8,
        description="Jaccard similarity from which prompts are near duplicates, for duplicate (of "
        "new prompts) and leakage; 1: equal prompts only",
    )
    agreement: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="least fraction of `samples` answers, drawn at `temperature`, that agree with "
        "the written one (self-consistency)",
    )
    samples: Annotated[int, Field(ge=2, le=64)] = Field(5, description="answers drawn by agreement")
    round_trip: bool = Field(
        False,
        description="ask for the answer to the written prompt again, greedily: it must be the same",
    )
    checker: PathText | None = Field(
        None, description="model or GGUF file that round_trip asks; absent: the teacher"
    )


class Templates(Section):
    """Texts that the teacher is sent: Jinja with `prompt`, `answer` and `examples`."""

    ask: str | None = Field(
        None, description="what asks for a new prompt, or for an answer; absent: the task's own"
    )
    check: str | None = Field(
        None,
        description="what round_trip asks, to be answered with yes; absent: the prompt itself, "
        "whose answer must be the same",
    )


class SynthesizeSection(_From):
    """A teacher writes rows: answers, paraphrases, new prompts or preference pairs."""

    task: TaskName = Field(
        "answers", description="; ".join(f"{name}: {row.summary}" for name, row in TASKS.items())
    )
    teacher: PathText | None = Field(
        None, description="model folder, GGUF file, hub id, or what tune, distill or merge made"
    )
    endpoint: str | None = Field(
        None,
        description="address of an OpenAI-compatible server, such as http://127.0.0.1:8080/v1; it "
        "is sent the rows",
    )
    model: str | None = Field(None, description="the endpoint's name of the model")
    key_env: str | None = Field(
        None, description="environment variable that holds the endpoint's key"
    )
    prompts: PathText | None = Field(
        None, description="file of rows that are the seeds instead of the train rows"
    )
    failures_of: PathText | None = Field(
        None, description="what tune, distill or merge made: its wrong validation answers"
    )
    count: Count | None = Field(None, description="rows to ask for; absent: one per seed")
    examples: Annotated[int, Field(ge=1, le=32)] = Field(
        4, description="seed rows shown to the teacher with each request for a new prompt"
    )
    rank: Literal["auto", "reference", "validators", "likelihood"] = Field(
        "auto",
        description="which of two answers is chosen. reference: the seed row's own, against a "
        "different one; validators: the one that passes; likelihood: the teacher's likelier; auto: "
        "reference where seeds have answers, else validators",
    )
    template: Templates = Field(default_factory=Templates)
    validators: Validators = Field(default_factory=Validators)
    compare: bool = Field(
        False,
        description="in a run: also tune without the synthetic rows, for as many steps; the report "
        "has the difference with its interval",
    )
    temperature: Annotated[float, Field(ge=0, le=4)] | None = Field(
        None, description="of random decoding, 0: greedy; absent: 0 for answers, 0.8 for the rest"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="draw from the likeliest tokens of this probability"
    )
    max_new_tokens: Count = Field(
        256, description="longest text that the teacher writes; one cut off there is rejected"
    )
    batch_size: Count = Field(64, description="rows between two saves")
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="requests that the endpoint is sent at a time"
    )
    timeout: Positive = Field(60.0, description="seconds that the endpoint has for an answer")
    retries: Annotated[int, Field(ge=0, le=10)] = Field(
        3, description="further attempts after a failed request, each after a longer pause"
    )
    max_requests: Count | None = Field(
        None,
        description="requests to the endpoint, retries included; then it ends with what it has",
    )
    price_per_million_tokens: Annotated[float, Field(ge=0)] | None = Field(
        None, description="price of a million tokens read or written, for the cost that is printed"
    )

    @property
    def seeds_from(self) -> str:
        """``rows`` or ``failures``: the key `from`."""
        return str(getattr(self, "from"))

    @property
    def heat(self) -> float:
        """The temperature, or the task's own."""
        own = TASKS[self.task].temperature
        return own if self.temperature is None else self.temperature

    @model_validator(mode="after")
    def _refuse_two_teachers(self) -> SynthesizeSection:
        if self.teacher and self.endpoint:
            raise ValueError("synthesize.teacher and synthesize.endpoint are both set: name one")
        if self.endpoint and not self.model:
            raise ValueError("synthesize.endpoint needs synthesize.model, its name of the model")
        if self.seeds_from == "failures" and not self.failures_of:
            raise ValueError("from: failures needs failures_of, the model whose failures they are")
        return self
