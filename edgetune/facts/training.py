"""What tune, distill and merge did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgetune.facts.convert import NULL
from edgetune.facts.gate import GateResult
from edgetune.facts.general import GeneralText

#: A model inside an artifact or elsewhere, as ``ModelRef.to_json`` writes it.
ModelPaths = dict[str, Any]


@dataclass(frozen=True)
class StepGain:
    """The model after a step of tuning and before it, on the same validation rows.

    Attributes:
        scores: ``exact_match`` and ``loss`` (nats per token) of ``after`` and ``before``.
        figures: difference (after minus before), ``ci95`` and ``n`` of both.
    """

    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TuneFacts:
    """The tuned model and how it came to be.

    Attributes:
        model: the base with its adapter, or all weights.
        base: the model as the recipe names it.
        method: ``qlora``, ``lora`` or ``full``.
        objective: what was minimised.
        device: it was trained on.
        compute_dtype: of the base's activations.
        trainable_parameters: how many were trained.
        steps: optimizer steps done.
        train_loss: the last, nats per token.
        validation_loss: of what was kept, nats per token.
        resumed_from: the step of the checkpoint it went on from; 0 for an unbroken training.
        end_token: that ends answers.
        template_clock: the time that a template which prints it was rendered at.
        tokens: counts of the train rows.
        data: counts of all splits.
        step: name of the step.
        trainer: TRL's class whose loss was minimised.
        figures: what the objective measured of its own, by name.
        gain: what the step gave, where there are several.
        ranks: of each layer, that ``rank: auto`` found; 0 for no adapter.
        untrained_tokens: texts of tokens in many answers that the base never had, and a frozen head
            cannot tell apart; absent where there are none.
        general: perplexity on general text before and after.
    """

    model: ModelPaths = field(default_factory=dict)
    base: str = ""
    method: str = ""
    objective: str = "sft"
    device: str = ""
    compute_dtype: str = ""
    trainable_parameters: int = 0
    steps: int = 0
    train_loss: float | None = field(default=None, metadata=NULL)
    validation_loss: float | None = field(default=None, metadata=NULL)
    resumed_from: int = 0
    end_token: str = ""
    template_clock: str | None = field(default=None, metadata=NULL)
    tokens: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] | None = field(default=None, metadata=NULL)
    step: str = ""
    trainer: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    gain: StepGain | None = None
    ranks: dict[str, int] | None = None
    untrained_tokens: list[str] | None = None
    general: GeneralText | None = None


@dataclass(frozen=True)
class RemovedLayer:
    """A layer that depth pruning removed, and the KL divergence it caused, nats per token."""

    layer: int
    kl_divergence: float


@dataclass(frozen=True)
class StudentFacts:
    """Where the student's initial weights come from.

    Attributes:
        cut_from: the model that was pruned.
        student_from: a model, a configuration, ``depth cut`` or ``width cut``.
        layers: numbers of the teacher's layers that were kept.
        of_layers: how many the teacher has.
        removed: the others, the least important first.
        widths: what width pruning left, by name.
    """

    cut_from: str | None = None
    student_from: str = ""
    layers: list[int] | None = None
    of_layers: int | None = None
    removed: list[RemovedLayer] | None = None
    widths: dict[str, int] | None = None


@dataclass(frozen=True)
class TrainedFacts:
    """The student and the baseline after training.

    Attributes:
        student_validation_loss: nats per token.
        steps: optimizer steps of each.
        baseline_validation_loss: nats per token.
        ship_figures: what decided between the two where both were compared.
        shipped: ``student`` or ``baseline``.
        baseline: the student trained without a teacher.
        student: the model that ships.
        distilled: the student trained with the teacher.
    """

    student_validation_loss: float | None = field(default=None, metadata=NULL)
    steps: int = 0
    baseline_validation_loss: float | None = None
    ship_figures: dict[str, Any] | None = None
    shipped: str | None = None
    baseline: ModelPaths | None = field(default=None, metadata=NULL)
    student: ModelPaths = field(default_factory=dict)
    distilled: ModelPaths = field(default_factory=dict)


@dataclass(frozen=True)
class TargetFacts:
    """What the teacher gave.

    Attributes:
        answers: how many it wrote.
        kernels: what computed the losses.
        cache_bytes: of its distributions on disk.
        cache_bytes_per_position: the same per trained token.
        positions: trained tokens in the cache.
        targets: ``sample`` or ``top_k``.
    """

    answers: int | None = None
    kernels: str | None = None
    cache_bytes: int | None = None
    cache_bytes_per_position: float | None = None
    positions: int | None = None
    targets: str | None = None


@dataclass(frozen=True)
class DistillFacts(TargetFacts, TrainedFacts, StudentFacts):
    """The distilled student; ``method`` is the objective that was used."""

    method: str = ""
    compute_dtype: str = ""


@dataclass(frozen=True)
class MergeCandidate:
    """Weights merged over one base, compared with what was trained.

    Attributes:
        base: ``original`` or ``dequantized``.
        kl_answer_tokens: mean KL(trained || merged) over answer tokens of validation rows, nats.
        top1_answer_tokens: fraction of those tokens with the same most likely token.
        positions: how many tokens those are.
    """

    base: str
    kl_answer_tokens: float
    top1_answer_tokens: float
    positions: int = 0


@dataclass(frozen=True)
class MergeFacts:
    """The merged model.

    Attributes:
        candidates: one per base.
        gates: the limit of the one that was kept.
        trained_on: ``original``, or ``nf4:`` and the compute dtype.
        chosen: the base of the one that was kept.
        folded: how many tensors an adapter changed.
        dtype: of the weights.
        source: the stage that trained; ``from`` in JSON.
        adapters: how many were merged.
    """

    candidates: list[MergeCandidate] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    trained_on: str = ""
    chosen: str = ""
    folded: int = 0
    dtype: str = ""
    source: str = field(default="", metadata={"name": "from"})
    adapters: int = 0
