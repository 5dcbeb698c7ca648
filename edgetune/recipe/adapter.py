"""Settings of a LoRA adapter: shared by the sections ``tune`` and ``distill``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgetune.recipe.section import Count, Fraction, Positive, Section


class AdapterSettings(Section):
    """Where a LoRA adapter lies, how large it is, how it is scaled and how it starts."""

    rank: Count | Literal["auto"] = Field(
        16,
        description="LoRA rank; auto: each layer's own, where the loss of the train rows asks for "
        "it, with as many parameters in all as rank_budget",
    )
    rank_budget: Count = Field(
        16, description="rank whose number of parameters rank: auto distributes"
    )
    alpha: Positive = Field(
        32.0,
        description="LoRA alpha; the update is scaled by alpha / rank, with rank: auto by "
        "alpha / rank_budget",
    )
    dropout: Fraction = Field(0.0, description="LoRA dropout")
    target_modules: Literal["all-linear"] | list[str] = Field(
        "all-linear",
        description="layers with an adapter: all linear ones but the head, or names, whole or "
        "their ends (q_proj)",
    )
    rank_pattern: dict[str, Count] = Field(
        default_factory=dict,
        description="rank of layers by the end of their name, a regular expression; of several "
        "that fit the longest counts",
    )
    alpha_pattern: dict[str, Positive] = Field(
        default_factory=dict,
        description="alpha of layers by the end of their name, as rank_pattern",
    )
    rslora: bool = Field(
        False, description="scale the update by alpha / sqrt(rank), which suits high ranks"
    )
    dora: bool = Field(
        False, description="also train the length of each row of the sum of weight and update"
    )
    init: Literal["default", "pissa"] = Field(
        "default",
        description="start of the adapter; default: no update; pissa: the principal part of each "
        "weight, which is taken off the base while it trains (method: lora)",
    )
    lora_plus_ratio: Positive = Field(
        1.0, description="learning rate of LoRA's B as a multiple of A's (LoRA+: about 16)"
    )
    modules_to_save: list[str] = Field(
        default_factory=list,
        description="modules trained whole beside the adapter, by the end of their name (lm_head)",
    )

    @property
    def uniform_rank(self) -> int:
        """The rank of layers without one of their own; of ``rank: auto``, its budget's."""
        return self.rank_budget if self.rank == "auto" else self.rank

    @model_validator(mode="after")
    def _refuse_ranks_twice(self) -> AdapterSettings:
        if self.rank == "auto" and (self.rank_pattern or self.alpha_pattern):
            raise ValueError("rank: auto finds each layer's rank; rank_pattern and alpha_pattern "
                             "would say another")  # fmt: skip
        return self


def refuse_pissa(init: str, method: str) -> None:
    """Refuse PiSSA over weights in 4 bits.

    Raises:
        ValueError: says what to do.
    """
    if init == "pissa" and method == "qlora":
        raise ValueError(
            "init: pissa takes its start off the base's weights, and those of qlora are rounded to "
            "4 bits already; use lora, or init: default"
        )


#: Keys that only a training with an adapter reads.
ADAPTER_KEYS = tuple(name for name in AdapterSettings.model_fields if name != "rank_budget")
