"""What estimates are made of, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetune.plan.machine import USABLE, Machine
from edgetune.plan.shape import Shape, Tokens
from edgetune.recipe import Recipe, TuneSection
from edgetune.recipe.sampling import SamplingSection

#: Resident memory of a process that has imported every stage and holds no model.
PROCESS_BYTES = 700_000_000
#: Of a tokenizer, per entry of its vocabulary: 151,646 take 205 MB.
TOKEN_BYTES = 1350


@dataclass(frozen=True)
class Estimate:
    """What a stage takes at its peak.

    Attributes:
        stage: its name.
        ram_bytes: resident memory of all its processes.
        gpu_bytes: of a GPU; 0 where none is used.
        disk_bytes: written, scratch included.
        seconds: from start to end.
        why: the largest parts of the memory, for the person who reads.
        step_seconds: of an optimizer step, where the stage trains.
    """

    stage: str
    ram_bytes: int
    gpu_bytes: int
    disk_bytes: int
    seconds: float
    why: dict[str, int]
    step_seconds: float = 0.0


@dataclass(frozen=True)
class Job:
    """What the estimates are made of.

    Attributes:
        recipe: what is planned.
        config: of the base model, as transformers reads it.
        shape: its numbers of weights.
        student: the configuration of what is merged and shipped: the student, or the base again.
        student_shape: its numbers of weights.
        tokens: of the rows.
        machine: that it runs on.
        dtype: of activations.
        steps: of the tuning, by what they are called in a run; each is a job of its own rows.
    """

    recipe: Recipe
    config: Any
    shape: Shape
    student: Any
    student_shape: Shape
    tokens: Tokens
    machine: Machine
    dtype: str
    steps: Mapping[str, Job] = field(default_factory=dict)

    @property
    def sampling(self) -> SamplingSection | None:
        """How the step that is planned samples its answers; none where it does not."""
        return find_sampling(self.recipe.tuned)


def find_sampling(section: TuneSection | None) -> SamplingSection | None:
    """Return how a step samples answers; none where it trains on those of its rows."""
    found = getattr(section, section.objective, None) if section else None
    return found if isinstance(found, SamplingSection) else None


def mapped_bytes(shape: Shape, machine: Machine, held: int) -> int:
    """Return what a checkpoint's pages take while it is read: the system takes back what it needs.

    Args:
        shape: of the model, in 16 bits.
        machine: that it is read on.
        held: memory that is not given back.
    """
    return min(2 * shape.total, max(0, int(USABLE * machine.ram_bytes) - held))
