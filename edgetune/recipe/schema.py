"""The recipe: everything a run is told, as frozen pydantic models, one section per stage.

A recipe is YAML. ``${NAME:-default}`` in a value is replaced from the environment, ``~`` at the
beginning of a path by the home folder. Relative paths
mean what they mean in a shell: relative to the directory the command is run in. A key that no
section knows is refused with the nearest one that exists; every value remembers where it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from edgetune.naming import name_model
from edgetune.recipe.data import DataSection
from edgetune.recipe.fairness import FairnessSection
from edgetune.recipe.grading import GradingSettings
from edgetune.recipe.prompting import PromptingSection
from edgetune.recipe.quantization import QuantizeSection
from edgetune.recipe.search import SearchSection
from edgetune.recipe.section import Count, PathText, Positive, Section
from edgetune.recipe.steps import last_model, name_steps
from edgetune.recipe.synthesis import SynthesizeSection
from edgetune.recipe.tokenizer import TokenizerSettings
from edgetune.recipe.training import DistillSection, TuneSection
from edgetune.train.objectives import OBJECTIVES

KvCache = Literal["f16", "q8_0", "q4_0"]


class ModelSection(Section):
    """The base model."""

    path: PathText = Field(
        description="model folder, `embedded:base`, or a hub id such as Qwen/Qwen3-0.6B"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="dtype of activations; auto: on a CPU float32 or bfloat16, whichever is faster "
        "there; on a GPU bfloat16, or float16 where it has none",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="where models run in torch: training, KL and calibration; files: bench.devices",
    )


class MergeSection(Section):
    """Merge the adapter into 16-bit weights."""

    base: Literal["auto", "original", "dequantized"] = Field(
        "auto", description="auto: whichever is closer to what was trained, by measured KL"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "bfloat16", description="dtype of the merged weights on disk"
    )
    measure_rows: Count = Field(64, description="validation rows that decide between the bases")
    trained_on: Literal["auto", "original", "nf4", "nf4:bfloat16", "nf4:float16", "nf4:float32"] = (
        Field(
            "auto",
            description="what an adapter of another tool was trained over, where nothing beside it "
            "says so: the base as it is, or its NF4 values (QLoRA), loaded in that dtype",
        )
    )
    max_kl: Positive | None = Field(
        None,
        description="largest KL (nats per token) to the trained model; absent: what rounding to "
        "merge.dtype explains",
    )


class ExportSection(Section):
    """Write the files and check each against the merged model."""

    check_rows: Count = Field(32, description="rows each file is compared on with the merged model")
    adapter: bool = Field(
        False,
        description="also write the LoRA adapter alone: for llama.cpp over the base's GGUF file, "
        "and for ONNX Runtime with a graph of the base that takes it",
    )


class Requests(Section):
    """The requests by which latency and memory are measured."""

    prompt_tokens: Count = Field(128, description="prompt length of the latency measurement")
    new_tokens: Count = Field(32, description="tokens decoded by the latency measurement")
    repeats: Count = Field(5, description="latency requests, after one that warms up")
    threads: Count | None = Field(None, description="absent: the machine's cores")


class BenchSection(Requests, GradingSettings):
    """Measure every model and file in the runtime that will run it."""

    split: Literal["test", "validation"] = Field(
        "test", description="rows that models are evaluated on"
    )
    models: Literal["all", "shipped"] = Field(
        "all",
        description="shipped: only the files, without those they come from and the divergences "
        "from them",
    )
    task_rows: Count = Field(300, description="rows answered by greedy decoding")
    label_likelihood: bool = Field(
        False,
        description="also score every label of a classification by its likelihood, for calibration "
        "and for accuracy however answers are written",
    )
    label_rows: Count = Field(100, description="rows whose labels are scored so")
    kl_rows: Count = Field(64, description="rows whose distributions are compared")
    max_new_tokens: Count = Field(64, description="longest answer")
    kv_cache: tuple[KvCache, ...] = Field(
        ("f16",),
        description="llama.cpp's KV cache types; GGUF files are measured again with each but f16",
    )
    devices: (
        Literal["auto"] | Annotated[tuple[Literal["cpu", "cuda"], ...], Field(min_length=1)]
    ) = Field(
        "auto",
        description="where models and files are measured; auto: the CPU, and the GPU where there "
        "is one (Hugging Face models on the GPU alone with model.device: cuda)",
    )
    prompting: PromptingSection | None = Field(
        None,
        description="also ask the untouched base with examples and a system prompt: was tuning "
        "needed?",
    )
    fairness: FairnessSection | None = Field(
        None,
        description="also ask rows with another person in them (other names, ages, pronouns): does "
        "the answer change?",
    )


class Gate(Section):
    """A limit on a metric; beyond it the verdict is fail and the exit code 3."""

    measurement: str = Field(description="name of a measurement, such as exact_match")
    models: str = Field("*", description="shell pattern over the report's model names")
    slice: str | None = Field(
        None,
        description="shell pattern over slices, such as language=de, length=long or label=*; "
        "absent: all rows",
    )
    reference: str | None = Field(
        None,
        description="shell pattern over other models: the limits are of the model's value minus "
        "theirs, and hold only where the 95 % interval's end does",
    )
    min: float | None = Field(None, description="smallest value that passes")
    max: float | None = Field(None, description="largest value that passes")


class ReportSection(Section):
    """The report and what must hold in it."""

    gates: tuple[Gate, ...] = Field((), description="limits on measurements")


class Recipe(Section):
    """A whole run. A stage whose section is absent (or null) is left out."""

    name: str = Field(
        "run",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="name of the run directory under runs/ and of the files",
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        0, description="seed of every random choice"
    )
    model: ModelSection
    data: DataSection | None = None
    synthesize: SynthesizeSection | None = None
    tune: TuneSection | tuple[TuneSection, ...] | None = None
    distill: DistillSection | None = None
    merge: MergeSection | None = None
    quantize: QuantizeSection | None = None
    export: ExportSection | None = None
    bench: BenchSection | None = None
    report: ReportSection = Field(default_factory=ReportSection)
    search: SearchSection | None = None

    #: Warnings of keys and values read by an old name; see :mod:`edgetune.recipe.aliases`.
    _renamed: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _check_steps(self) -> Recipe:
        if isinstance(self.tune, tuple) and not self.tune:
            raise ValueError("tune has no step")
        if isinstance(self.tune, tuple):  # what steps take over from each other is written out
            object.__setattr__(self, "tune", name_steps(self.tune))
        return self

    @property
    def renamed(self) -> tuple[str, ...]:
        """Warnings of keys and values that were read by their old names."""
        return self._renamed

    def with_renamed(self, warnings: Sequence[str]) -> Recipe:
        """Return the same recipe with warnings of the old names that it was read by."""
        found = self.model_copy()
        found._renamed = tuple(warnings)
        return found

    @property
    def file_name(self) -> str:
        """What exported files are called: the recipe's name, else the model's."""
        if self.name != Recipe.model_fields["name"].default:
            return self.name
        made = "-student" if self.distill else "-tuned" if self.tune else ""
        return name_model(self.model.path) + made

    @property
    def steps(self) -> tuple[TuneSection, ...]:
        """The steps of the tuning, with their names; none where nothing is tuned."""
        if self.tune is None:
            return ()
        return name_steps(self.tune if isinstance(self.tune, tuple) else (self.tune,))

    @property
    def tuned(self) -> TuneSection | None:
        """The step whose model the stages after the tuning take: the last that gives one."""
        return last_model(self.steps)

    @property
    def step_labels(self) -> list[str]:
        """What the steps are called in a run: ``tune`` the one that later stages take."""
        tuned = self.tuned
        return [
            "tune" if tuned is not None and step.name == tuned.name else f"tune-{step.name}"
            for step in self.steps
        ]

    @property
    def base_file(self) -> Path | None:
        """The GGUF file that is tuned over, which then ships with its adapter."""
        return self.tuned.base_file if self.tuned else None

    def at_step(self, number: int) -> Recipe:
        """Return the recipe as one step sees it: the step is ``tune``, its rows are ``data``."""
        step = self.steps[number]
        alone = step.model_copy(update={"data": None})
        return self.model_copy(update={"tune": alone, "data": step.data or self.data})

    @property
    def tokenizer(self) -> TokenizerSettings:
        """What decides which rows are used and their tokens, for the stage that makes them."""
        ours = [step for step in self.steps if step.data is None]
        step = ours[-1] if ours else self.tuned
        return TokenizerSettings(
            path=self.model.path,
            revision=self.model.revision,
            end_token=step.end_token if step else None,
            objective=OBJECTIVES[ours[-1].objective].rows if ours else "sft",
        )

    @property
    def control(self) -> bool | None:
        """Whether the base is also tuned without the synthetic rows; ``None`` where it is not."""
        compared = self.synthesize is not None and self.synthesize.compare
        return True if compared and self.tuned is not None else None

    @property
    def device(self) -> str:
        """``model.device``, for stages that read nothing else of the model's section."""
        return self.model.device

    @property
    def requests(self) -> Requests | None:
        """Requests that the budgets ``ram=`` and ``tpot=`` are measured by: those of bench.

        None without such a budget, so that bench's settings are no part of other plans' keys.
        """
        budgets = self.quantize.budget if self.quantize else ()
        if not any("ram=" in budget or "tpot=" in budget for budget in budgets):
            return None
        bench = self.bench or BenchSection()
        return Requests.model_validate(bench.model_dump(include=set(Requests.model_fields)))
