"""The sections of ``tune`` that one objective reads: ``tune.dpo`` and others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgetune.recipe.section import Positive, Section

#: Those of TRL's DPOTrainer, by its names.
DpoLoss = Literal[
    "sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair",
    "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft",
]  # fmt: skip
#: Those that read ``label_smoothing``.
SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")


class DpoSection(Section):
    """Direct preference optimization of a chosen answer over a rejected one."""

    beta: Positive = Field(
        0.1, description="how closely the model keeps to what it was before: larger is closer"
    )
    loss_type: DpoLoss | tuple[DpoLoss, ...] = Field(
        "sigmoid",
        description="the loss, by TRL's names, or a list of losses that are added up; ipo, "
        "robust (to wrong labels), apo_zero and apo_down, and sft, which is of chosen answers",
    )
    loss_weights: tuple[Positive, ...] | None = Field(
        None, description="weight of each loss of a list; absent: 1"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0, description="fraction of pairs whose label may be wrong, for robust, exo_pair and aot"
    )

    @property
    def losses(self) -> tuple[DpoLoss, ...]:
        """The losses as a list."""
        return (self.loss_type,) if isinstance(self.loss_type, str) else self.loss_type

    @model_validator(mode="after")
    def _check_losses(self) -> DpoSection:
        if not self.losses:
            raise ValueError("loss_type is an empty list")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.losses):
            raise ValueError(f"{len(self.loss_weights)} loss_weights for {len(self.losses)} losses")
        if self.label_smoothing and not set(SMOOTHED) & set(self.losses):
            raise ValueError(f"label_smoothing is read by loss_type: {', '.join(SMOOTHED)}")
        if "exo_pair" in self.losses and not self.label_smoothing:
            raise ValueError("exo_pair needs label_smoothing above 0; its paper takes 1e-3")
        return self


class KtoSection(Section):
    """Kahneman-Tversky optimization on answers with a thumb up or down."""

    beta: Positive = Field(
        0.1, description="how closely the model keeps to what it was before: larger is closer"
    )
    loss_type: Literal["kto", "apo_zero_unpaired"] = Field(
        "kto", description="the loss, by TRL's names"
    )
    desirable_weight: Positive = Field(1.0, description="weight of liked answers")
    undesirable_weight: Positive = Field(1.0, description="weight of disliked answers")


class OrpoSection(Section):
    """Odds ratio preference optimization: supervised tuning and preference in one loss."""

    beta: Positive = Field(0.1, description="weight of the odds ratio; λ of its paper")


class RewardSection(Section):
    """A reward model: one score for an answer."""

    center_rewards_coefficient: Positive | None = Field(
        None, description="pulls the scores of a pair to a mean of 0; 0.01, say"
    )
