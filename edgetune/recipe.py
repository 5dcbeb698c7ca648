"""The recipe: everything a run is told, as frozen pydantic models, one section a stage.

A recipe is YAML. ``${NAME:-default}`` in a value is replaced from the environment, ``~`` at the
beginning of a path by the home folder. Relative paths
mean what they mean in a shell: relative to the directory the command is run in. A key that no
section knows is refused with the nearest one that exists; every value remembers where it came from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from edgetune.naming import name_model

GGUF_SCHEMES = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M")
ONNX_SCHEMES = ("fp32", "fp16", "int8", "int4")

Gguf = Literal["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M"]
Onnx = Literal["fp32", "fp16", "int8", "int4"]
KvCache = Literal["f16", "q8_0", "q4_0"]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


def expand_home(path: str) -> str:
    """Return the path with a leading ``~`` or ``~user`` replaced, where there is such a home."""
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # no such user
        return path


PathText = Annotated[str, AfterValidator(expand_home)]


class Section(BaseModel):
    """A part of the recipe: frozen, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(Section):
    """The base model."""

    path: PathText = Field(
        description="model folder, `embedded:base`, or a hub id such as Qwen/Qwen3-0.6B"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="dtype of activations; auto: bfloat16 where the machine has it, else float32",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where models run")


class Columns(Section):
    """Names of the columns that hold a row's parts, for files of no known shape."""

    prompt: str
    completion: str
    system: str | None = None


class DataSection(Section):
    """Rows to train, validate and test on."""

    train: PathText | tuple[PathText, ...] = Field(
        description="file, folder of files, pattern (data/*.jsonl), list of these, or a Hugging "
        "Face dataset saved to disk"
    )
    validation: PathText | tuple[PathText, ...] | None = Field(
        None, description="absent: train's own validation split, or split from train with the seed"
    )
    test: PathText | tuple[PathText, ...] | None = Field(
        None, description="rows that judge; absent: train's own test split, or the validation rows"
    )
    format: Literal[
        "auto",
        "messages",
        "prompt_completion",
        "instruction",
        "sharegpt",
        "classification",
        "text",
        "columns",
    ] = Field("auto", description="shape of a row; auto detects it and says so")
    columns: Columns | None = Field(None, description="column names; needed by format: columns")
    template: Literal["auto", "chat", "plain"] = Field(
        "auto", description="auto: the tokenizer's chat template, or a plain one when it has none"
    )
    system: str | None = Field(None, description="system message put before rows without one")
    on_bad_row: Literal["error", "skip"] = Field("error", description="what a malformed row does")
    max_length: Count = Field(
        1024,
        description="tokens a row may have; longer answers are cut, longer texts train in pieces",
    )
    validation_fraction: Fraction = Field(0.05, description="share split off when none is given")
    limit: Count | None = Field(None, description="use only so many train rows")


class Optimization(Section):
    """Knobs that every kind of training has."""

    learning_rate: Positive = Field(2e-4, description="peak of the cosine schedule")
    warmup_ratio: Fraction = Field(0.05, description="share of the steps that warm up linearly")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="AdamW weight decay")
    max_grad_norm: Positive = Field(1.0, description="gradient clipping")
    epochs: Positive = Field(1.0, description="passes over the train rows")
    max_steps: Count | None = Field(None, description="optimizer steps; overrides epochs")
    batch_size: Count = Field(8, description="sequences a forward pass")
    gradient_accumulation: Count = Field(1, description="forward passes an optimizer step")
    eval_every: Count = Field(100, description="optimizer steps between validations")
    save_every: Count = Field(100, description="optimizer steps between checkpoints")
    patience: Count | None = Field(
        None, description="stop after so many validations without a better loss"
    )
    gradient_checkpointing: bool = Field(False, description="trade time for activation memory")


class Training(Optimization):
    """Those of trainings that may add an adapter."""

    rank: Count = Field(16, description="LoRA rank")
    alpha: Positive = Field(32.0, description="LoRA alpha; the update is scaled by alpha / rank")
    dropout: Fraction = Field(0.0, description="LoRA dropout")


class TuneSection(Training):
    """Fine-tune the base: the result is the teacher."""

    method: Literal["qlora", "lora", "full"] = Field(
        "qlora",
        description="qlora: adapter over NF4 weights; lora: over 16/32-bit; full: all weights",
    )
    packing: bool = Field(True, description="fill sequences of data.max_length with several rows")
    pack_length: Count | None = Field(
        None, description="tokens a packed sequence; absent: max_length"
    )
    end_token: str | None = Field(
        None, description="token that ends an answer; absent: the tokenizer's, if it can be learned"
    )


class Student(Section):
    """Where the student's weights start."""

    path: PathText | None = Field(None, description="another model; of the same tokenizer, at best")
    config: PathText | None = Field(
        None, description="config.json of a fresh model with random weights, for train: full"
    )
    layers: Count | None = Field(
        None, description="depth cut of the teacher: how many layers to keep"
    )
    mlp: Count | None = Field(None, description="width cut: MLP channels a layer keeps")
    heads: Count | None = Field(None, description="width cut: query heads a layer keeps")
    hidden: Count | None = Field(None, description="width cut: residual channels to keep")


class DistillSection(Training):
    """Train a smaller student on what the teacher says."""

    method: Literal["cached", "online", "on_policy", "sequence"] = Field(
        "cached",
        description="cached: the teacher's distribution, kept once; online: the teacher stays in "
        "memory; on_policy: it grades what the student writes; sequence: it writes the answers",
    )
    train: Literal["full", "lora", "qlora"] = Field(
        "full", description="how the student is trained"
    )
    teacher: PathText | None = Field(
        None, description="a model folder or GGUF file that teaches in place of the tuned model"
    )
    prompts: PathText | None = Field(
        None,
        description="file of rows whose answers the teacher writes; the student learns them too",
    )
    learning_rate: Positive = Field(1e-3, description="peak of the cosine schedule")
    student: Student = Field(default_factory=Student)
    kl_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        0.8, description="weight of the teacher's part; cross-entropy to the answer has the rest"
    )
    kl_warmup: Fraction = Field(
        0.0, description="share of the steps over which kl_weight grows from 0"
    )
    temperature: Positive = Field(1.0, description="of both softmaxes in the teacher's part")
    targets: Literal["sample", "top_k"] = Field(
        "sample",
        description="what the cache keeps: an unbiased sample, or the largest and the rest",
    )
    samples: Annotated[int, Field(ge=1, le=255)] = Field(
        64, description="draws from the teacher's distribution kept a token"
    )
    top_k: Annotated[int, Field(ge=1, le=1024)] = Field(
        20, description="entries kept a token by targets: top_k"
    )
    cache: PathText | None = Field(
        None, description="folder of the teacher's cache; absent: one a key beside the stage"
    )
    divergence: Literal["forward_kl", "reverse_kl", "jsd", "skewed_kl"] = Field(
        "forward_kl", description="what online and on_policy minimise"
    )
    divergence_mix: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="beta of jsd, alpha of skewed_kl"
    )
    max_new_tokens: Count = Field(256, description="longest answer that the teacher writes")
    kernels: Literal["auto", "torch", "triton"] = Field(
        "auto", description="what computes the losses; auto: Triton on a GPU"
    )
    baseline: bool = Field(True, description="also train the same student without the teacher")
    ship: Literal["best", "student", "baseline"] = Field(
        "best",
        description="what is merged; best: the student, or the baseline where that is better on "
        "validation rows beyond the noise",
    )

    @model_validator(mode="after")
    def _refuse_a_baseline_that_is_none(self) -> DistillSection:
        if self.ship == "baseline" and not self.baseline:
            raise ValueError("ship: baseline needs baseline: true, or there is none to ship")
        return self


class MergeSection(Section):
    """Fold the adapter into 16-bit weights."""

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
        description="how far (nats) the merge may be from what was trained; absent: what rounding "
        "to merge.dtype explains",
    )


class GridSection(Optimization):
    """Train the weights on the grid that their types have."""

    learning_rate: Positive = Field(
        0.015,
        description="peak of the cosine schedule, in steps of a weight's own grid; another code is "
        "a quarter to three quarters of a step away",
    )
    max_steps: Count = Field(300, description="optimizer steps")
    batch_size: Count = Field(16, description="sequences a forward pass")
    scales: Literal["kept", "learned"] = Field(
        "kept",
        description="kept: blocks have the scales that the weights were rounded with; learned: the "
        "factors of scales, and of offsets, are trained beside the weights",
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="none: weights are counted in steps of their grids here, and not from 0"
    )

    @field_validator("weight_decay")
    @classmethod
    def _refuse_decay(cls, value: float) -> float:
        if value:
            # It would pull to code 0, which stands for a block's lowest value, not for 0.
            raise ValueError("training on a grid has no weight decay; its teacher holds it")
        return value


class AutoRoundSection(Section):
    """AutoRound's signed gradient descent on the rounding of each decoder layer."""

    iterations: Count = Field(200, description="steps a decoder layer")
    batch_size: Count = Field(8, description="calibration rows a step")


class QuantizeSection(Section):
    """Decide the type of every tensor."""

    gguf: tuple[Gguf, ...] = Field(
        ("F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0"), description="GGUF schemes"
    )
    onnx: tuple[Onnx, ...] = Field(("fp32", "int8", "int4"), description="ONNX precisions")
    target: tuple[str, ...] = Field(
        (),
        description="files whose types are searched for a budget: bytes=2.5MB, bytes=Q4_K_M (as "
        "many as that scheme's), bits=4.5, kl=0.02; ram=800MB and tpot=12ms, as bench measures "
        "them here; ONNX folders: onnx:bytes=2.5MB, onnx:bytes=int4, onnx:ram=800MB and so on",
    )
    method: Literal["gptq", "ggml", "autoround", "grid"] = Field(
        "gptq",
        description="who decides the codes of the targets' files: gptq rounds each matrix and "
        "each of its columns so that it makes up for those before it; ggml rounds each weight by "
        "itself; autoround is AutoRound (GGUF: in Q4_0, Q5_0 and Q8_0); grid trains the weights on "
        "the grid of their types",
    )
    train: bool = Field(False, description="true: the same as method: grid")
    types: tuple[str, ...] = Field(
        (),
        description="what the matrices of a target's file may become, such as those your device is "
        "fast in: [Q4_0, Q8_0]; absent: all that the method decides",
    )
    grid: GridSection = Field(default_factory=GridSection)
    autoround: AutoRoundSection = Field(default_factory=AutoRoundSection)
    search_tokens: Count = Field(4096, description="calibration tokens a search measures KL on")
    imatrix: bool = Field(True, description="weigh rounding errors by an importance matrix")
    calibration_rows: Count = Field(
        256,
        description="train rows that importance and harm are measured on, chosen by the seed; none "
        "whose prompt a row has that judges",
    )

    @property
    def decider(self) -> Literal["gptq", "ggml", "autoround", "grid"]:
        """Who decides the codes: ``method``, or what ``train`` says."""
        return "grid" if self.train else self.method

    @model_validator(mode="after")
    def _refuse_two_deciders(self) -> QuantizeSection:
        if self.train and self.method in ("ggml", "autoround"):
            raise ValueError(
                f"train: true and method: {self.method} both decide the codes; leave out one"
            )
        return self

    @model_validator(mode="after")
    def _refuse_settings_of_another_decider(self) -> QuantizeSection:
        given = {"grid": self.grid, "autoround": self.autoround}
        for decider, section in given.items():
            if self.decider != decider and section != type(section)():
                raise ValueError(
                    f"{decider} has settings that only method: {decider} reads, and the method is "
                    f"{self.decider}; set method: {decider} or leave them out"
                )
        return self


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


class BenchSection(Requests):
    """Measure every model and file in the runtime that will run it."""

    task_rows: Count = Field(300, description="test rows answered by greedy decoding")
    kl_rows: Count = Field(64, description="test rows whose distributions are compared")
    max_new_tokens: Count = Field(64, description="longest answer")
    kv_cache: tuple[KvCache, ...] = Field(
        ("f16",),
        description="llama.cpp's KV cache types; GGUF files are measured again with each but f16",
    )


class Gate(Section):
    """A limit on a measurement; crossing it makes the verdict fail and the exit code 3."""

    measurement: str = Field(description="name of a measurement, such as exact_match")
    models: str = Field("*", description="shell pattern over the report's model names")
    min: float | None = None
    max: float | None = None


class ReportSection(Section):
    """The report and what must hold in it."""

    gates: tuple[Gate, ...] = Field((), description="limits on measurements")


class Recipe(Section):
    """A whole run. A stage whose section is absent (or null) is left out."""

    name: str = Field(
        "run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="folder under runs/"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="of everything random")
    model: ModelSection
    data: DataSection | None = None
    tune: TuneSection | None = None
    distill: DistillSection | None = None
    merge: MergeSection | None = None
    quantize: QuantizeSection | None = None
    export: ExportSection | None = None
    bench: BenchSection | None = None
    report: ReportSection = Field(default_factory=ReportSection)

    @property
    def file_name(self) -> str:
        """What exported files are called: the recipe's name, else the model's."""
        if self.name != Recipe.model_fields["name"].default:
            return self.name
        made = "-student" if self.distill else "-tuned" if self.tune else ""
        return name_model(self.model.path) + made

    @property
    def requests(self) -> Requests | None:
        """What the targets ``ram=`` and ``tpot=`` are measured by: bench's own requests.

        None where no target is, so that bench's settings are no part of other plans' keys.
        """
        targets = self.quantize.target if self.quantize else ()
        if not any("ram=" in target or "tpot=" in target for target in targets):
            return None
        bench = self.bench or BenchSection()
        return Requests.model_validate(bench.model_dump(include=set(Requests.model_fields)))


class Sections:
    """The sections a stage declared, and no others, so that its key covers all it can read."""

    def __init__(self, recipe: Recipe, names: tuple[str, ...]) -> None:
        self._values: dict[str, Any] = {name: getattr(recipe, name) for name in names}
        self.seed = recipe.seed

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"the stage did not declare the recipe section '{name}'") from None

    def dump(self) -> dict[str, Any]:
        """Return plain JSON values, for the artifact's key."""
        plain = {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in self._values.items()
        }
        return {"seed": self.seed, **plain}
