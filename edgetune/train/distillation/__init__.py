"""DISTILL_METHODS: how a student learns from its teacher, one row each.

A new method is one file here with ``make_targets(distillation)`` and one row: the recipe's
choices, the choices of ``--method``, and the stage read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from edgetune.errors import InputError

if TYPE_CHECKING:  # the recipe's choices come from here, and a recipe is read without torch
    from edgetune.recipe.training import DistillSection
    from edgetune.train.distillation.targets import Distillation, StudentTargets


@dataclass(frozen=True)
class DistillMethod:
    """One way to distil.

    Attributes:
        summary: what it does, for help and reference.
        module: the module of this package whose ``make_targets(distillation)`` returns the rows
            and the loss that the student is trained with.
        keeps_teacher: the teacher stays in memory, in torch, while the student is trained.
        reads: those keys of ``distill`` that some methods read and others do not.
        divergences: those of ``distill.divergence`` that it can minimise.
    """

    summary: str
    module: str
    reads: tuple[str, ...]
    keeps_teacher: bool = False
    divergences: tuple[str, ...] = ()

    def make_targets(self, distillation: Distillation) -> StudentTargets:
        """Return the rows and the loss that the student is trained with."""
        module = import_module(f"{__name__}.{self.module}")  # trainers take 190 MB: on use only
        make: Callable[[Distillation], StudentTargets] = module.make_targets
        return make(distillation)


DISTILL_METHODS: dict[str, DistillMethod] = {
    "cached": DistillMethod(
        "the teacher's distribution, kept once",
        module="cached",
        reads=("kl_weight", "kl_warmup", "temperature", "targets", "cache"),
    ),
    "online": DistillMethod(
        "the teacher stays in memory",
        module="online",
        reads=("kl_weight", "kl_warmup", "temperature", "divergence"),
        keeps_teacher=True,
        divergences=("forward_kl", "reverse_kl", "jsd", "skewed_kl"),
    ),
    "on_policy": DistillMethod(
        "it grades what the student writes",
        module="on_policy",
        reads=("temperature", "divergence", "max_new_tokens"),
        keeps_teacher=True,
        divergences=("forward_kl", "reverse_kl", "jsd"),
    ),
    "sequence": DistillMethod(
        "it writes the answers", module="sequence", reads=("max_new_tokens",)
    ),
}


def check_method(section: DistillSection) -> None:
    """Refuse a divergence or a teacher that the method cannot train with.

    Raises:
        InputError: ``skewed_kl`` with ``on_policy``, which TRL trains; a GGUF file that would
            have to stay in memory.
    """
    method = DISTILL_METHODS[section.method]
    if method.keeps_teacher and (section.teacher or "").endswith(".gguf"):
        others = [name for name, row in DISTILL_METHODS.items() if not row.keeps_teacher]
        raise InputError(
            f"a GGUF file cannot teach {section.method}: that is done in torch",
            where="distill.method",
            hint=f"use {' or '.join(others)}",
        )
    if method.divergences and section.divergence not in method.divergences:
        *most, last = method.divergences
        others = [n for n, row in DISTILL_METHODS.items() if section.divergence in row.divergences]
        raise InputError(
            f"{section.method} has {', '.join(most)} and {last}",
            where="distill.divergence",
            hint=f"{section.divergence} goes with method: {' or '.join(others)}",
        )
