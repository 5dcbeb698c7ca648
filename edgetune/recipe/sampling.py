"""Settings of objectives whose answers the model samples itself: ``grpo`` and ``rloo``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgetune.recipe.section import Count, Positive, Section

Share = Annotated[float, Field(gt=0, le=1)]


class Reward(Section):
    """What an answer is rewarded for, and how much that counts."""

    reward: str = Field(description="NAME or NAME:VALUE of a reward, or FILE.py:FUNCTION")
    weight: float = Field(1.0, description="factor of it in the sum of all rewards")


class SamplingSection(Section):
    """Sample answers to the prompts of rows, reward them, and reinforce the better ones."""

    rewards: tuple[str | Reward, ...] = Field(
        (),
        description="json, json_schema:FILE, json_fields, regex:PATTERN, exact, numeric, "
        "length:CHARACTERS, model:STEP (an earlier step of objective: reward, or its folder) or "
        "FILE.py:FUNCTION, which "
        "runs in a process of its own",
    )
    generations: Annotated[int, Field(ge=2)] = Field(8, description="answers to each prompt")
    temperature: Positive = Field(1.0, description="temperature of sampling")
    top_p: Share = Field(1.0, description="nucleus that tokens are sampled from")
    max_new_tokens: Count = Field(128, description="longest answer")
    reward_seconds: Positive = Field(
        10.0, description="longest time that a function of FILE.py may take for a batch"
    )
    min_entropy: Annotated[float, Field(ge=0)] = Field(
        0.01,
        description="nats per token; training stops when ten logged steps in a row are below",
    )
    max_clipped: Share = Field(
        1.0, description="training stops when more of the answers than this never end"
    )
    max_kl: Positive | None = Field(
        None,
        description="nats per token from the model before the step, beyond which training stops; "
        "needs beta above 0",
    )


class GrpoSection(SamplingSection):
    """Settings of ``objective: grpo`` (Shao et al. 2024, arXiv 2402.03300)."""

    beta: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of the KL to the model before the step; 0 needs no reference"
    )
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = Field(
        "dapo", description="how the loss is averaged over tokens, by TRL's names"
    )


class RlooSection(SamplingSection):
    """Settings of ``objective: rloo`` (Ahmadian et al. 2024, arXiv 2402.14740)."""

    generations: Annotated[int, Field(ge=2)] = Field(2, description="answers to each prompt")
    beta: Annotated[float, Field(ge=0)] = Field(
        0.05, description="weight of the KL to the model before the step, taken off the reward"
    )


#: Objectives with such a section, which has their name.
SAMPLING = ("grpo", "rloo")
