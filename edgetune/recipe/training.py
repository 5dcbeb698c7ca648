"""The sections of what trains: ``tune`` and ``distill``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from edgetune.recipe.adapter import AdapterSettings, refuse_pissa
from edgetune.recipe.data import DataSection
from edgetune.recipe.objectives import DpoSection, KtoSection, OrpoSection, RewardSection
from edgetune.recipe.sampling import GrpoSection, RlooSection
from edgetune.recipe.section import Count, Fraction, PathText, Positive, Section, expand_home
from edgetune.recipe.supervised import SupervisedSettings
from edgetune.train.distillation import DISTILL_METHODS
from edgetune.train.objectives import OBJECTIVES
from edgetune.train.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    DistillMethodName = str
    ObjectiveName = str
    OptimizerName = str
else:  # the rows of the tables are the choices: in validation, help and schema
    DistillMethodName = Literal[tuple(DISTILL_METHODS)]
    ObjectiveName = Literal[tuple(OBJECTIVES)]
    OptimizerName = Literal[tuple(OPTIMIZERS)]


class Optimization(Section):
    """Settings of every kind of training."""

    learning_rate: Positive = Field(2e-4, description="peak of the schedule")
    warmup_ratio: Fraction = Field(0.05, description="fraction of the steps with a linear warmup")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="weight decay")
    max_grad_norm: Positive = Field(1.0, description="gradient clipping")
    epochs: Positive = Field(1.0, description="passes over the train rows")
    max_steps: Count | None = Field(None, description="optimizer steps; overrides epochs")
    batch_size: Count = Field(8, description="sequences per forward pass")
    gradient_accumulation: Count = Field(1, description="forward passes per optimizer step")
    eval_every: Count = Field(100, description="optimizer steps between validations")
    eval_rows: Count | Literal["all"] = Field(
        512, description="validation rows of each validation, taken evenly and always the same"
    )
    save_every: Count = Field(100, description="optimizer steps between checkpoints")
    patience: Count | None = Field(
        None, description="stop after so many validations without a better loss"
    )
    gradient_checkpointing: bool = Field(False, description="trade time for activation memory")


class Training(AdapterSettings, Optimization):
    """Settings of a training that may add a LoRA adapter."""

    optimizer: OptimizerName = Field(
        "adamw_torch_fused",
        description="what updates the weights; 8bit: its state in 8 bits; paged: moved to RAM "
        "where GPU memory runs short",
    )
    scheduler: Literal[
        "cosine", "cosine_with_min_lr", "linear", "constant", "constant_with_warmup", "inverse_sqrt"
    ] = Field("cosine", description="how the learning rate goes on from its peak")
    min_lr_ratio: Fraction = Field(
        0.1, description="last learning rate of cosine_with_min_lr, as a fraction of the peak"
    )
    report_to: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = Field(
        (), description="trackers that the curves are sent to; the artifact is the same without"
    )


class TuneSection(SupervisedSettings, Training):
    """Fine-tune the base model, in one step or a list of steps; the result is the teacher."""

    name: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9_]*$",
        description="name of a step; absent: its objective",
    )
    objective: ObjectiveName = Field(
        "sft",
        description="; ".join(f"{name}: {row.summary}" for name, row in OBJECTIVES.items()),
    )
    data: DataSection | None = Field(
        None, description="rows of this step alone, as in the section data; absent: that section"
    )
    method: Literal["qlora", "lora", "full"] = Field(
        "qlora",
        description="qlora: adapter over weights in few bits, NF4 or those of tune.base; lora: "
        "over 16/32-bit; full: all weights",
    )
    packing: bool = Field(True, description="fill sequences of data.max_length with several rows")
    pack_length: Count | None = Field(
        None, description="tokens a packed sequence; absent: max_length"
    )
    end_token: str | None = Field(
        None, description="token that ends an answer; absent: the tokenizer's, if it can be learned"
    )
    dpo: DpoSection = Field(default_factory=DpoSection)
    orpo: OrpoSection = Field(default_factory=OrpoSection)
    kto: KtoSection = Field(default_factory=KtoSection)
    reward: RewardSection = Field(default_factory=RewardSection)
    grpo: GrpoSection = Field(default_factory=GrpoSection)
    rloo: RlooSection = Field(default_factory=RlooSection)
    base: str | None = Field(
        None,
        pattern=r"^gguf:.+",
        description="gguf:FILE: the adapter is trained over a GGUF file's own weights and ships "
        "over that very file, not merged; model.path is the folder that it was made of",
    )

    @property
    def base_file(self) -> Path | None:
        """The GGUF file whose weights are tuned over, or none."""
        if self.base is None:
            return None
        return Path(expand_home(self.base.removeprefix("gguf:")))

    @model_validator(mode="after")
    def _refuse_pissa_over_nf4(self) -> TuneSection:
        refuse_pissa(self.init, self.method)
        return self

    @model_validator(mode="after")
    def _refuse_ranks_of_another_loss(self) -> TuneSection:
        if self.rank == "auto" and OBJECTIVES[self.objective].rows not in ("sft", "text"):
            raise ValueError(
                "rank: auto measures the loss of answers or texts, so the first step is to be of "
                "the objective sft or text; name a number"
            )
        return self

    @model_validator(mode="after")
    def _refuse_a_metric_that_nothing_watches(self) -> TuneSection:
        if self.best_by != "loss" and self.patience is None:
            raise ValueError("best_by needs patience: the last weights are kept without it")
        return self


class Student(Section):
    """How the student is initialised: a model, a configuration, or a pruned teacher."""

    path: PathText | None = Field(None, description="another model; of the same tokenizer, at best")
    config: PathText | None = Field(
        None, description="config.json of a fresh model with random weights, for train: full"
    )
    layers: Count | None = Field(None, description="depth pruning: teacher layers to keep")
    mlp: Count | None = Field(None, description="width pruning: MLP channels to keep per layer")
    heads: Count | None = Field(None, description="width pruning: query heads to keep per layer")
    hidden: Count | None = Field(
        None, description="width pruning: residual (hidden) channels to keep"
    )


class DistillSection(Training):
    """Train a smaller student on the teacher's distributions or answers."""

    method: DistillMethodName = Field(
        "cached",
        description="; ".join(f"{name}: {row.summary}" for name, row in DISTILL_METHODS.items()),
    )
    train: Literal["full", "lora", "qlora"] = Field(
        "full", description="how the student is trained"
    )
    teacher: PathText | None = Field(
        None, description="model folder or GGUF file used as the teacher instead of the tuned model"
    )
    prompts: PathText | None = Field(
        None,
        description="file of rows whose answers the teacher writes; the student learns them too",
    )
    learning_rate: Positive = Field(1e-3, description="peak of the schedule")
    student: Student = Field(default_factory=Student)
    kl_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        0.8, description="weight of the KL to the teacher; cross-entropy to the answer has the rest"
    )
    kl_warmup: Fraction = Field(
        0.0, description="fraction of the steps over which kl_weight grows from 0"
    )
    temperature: Positive = Field(
        1.0, description="temperature of both softmaxes in the KL to the teacher"
    )
    targets: Literal["sample", "top_k"] = Field(
        "sample",
        description="what the cache keeps: an unbiased sample, or the largest and the rest",
    )
    samples: Annotated[int, Field(ge=1, le=255)] = Field(
        64, description="samples of the teacher's distribution stored per token"
    )
    top_k: Annotated[int, Field(ge=1, le=1024)] = Field(
        20, description="probabilities stored per token by targets: top_k"
    )
    cache: PathText | None = Field(
        None, description="folder of the teacher's cache; absent: one a key beside the stage"
    )
    divergence: Literal["forward_kl", "reverse_kl", "jsd", "skewed_kl"] = Field(
        "forward_kl", description="divergence that online and on_policy minimise"
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
    def _refuse_pissa_over_nf4(self) -> DistillSection:
        refuse_pissa(self.init, self.train)
        return self

    @model_validator(mode="after")
    def _refuse_measured_ranks(self) -> DistillSection:
        if self.rank == "auto":
            raise ValueError("rank: auto is measured by tune alone; name a number")
        return self

    @model_validator(mode="after")
    def _refuse_a_baseline_that_is_none(self) -> DistillSection:
        if self.ship == "baseline" and not self.baseline:
            raise ValueError("ship: baseline needs baseline: true, or there is none to ship")
        return self
