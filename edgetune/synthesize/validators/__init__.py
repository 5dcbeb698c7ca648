"""VALIDATORS: why a written row is rejected, one row each, cheap ones first.

Each makes a check from the recipe and what it is compared with; a check returns a reason for each
draft, empty where it passes, and is told which drafts were accepted in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from edgetune.data.rows import Row
from edgetune.recipe.synthesis import SynthesizeSection, Validators
from edgetune.synthesize.draft import Draft
from edgetune.synthesize.teacher import Teacher
from edgetune.synthesize.template import Template


class Check(Protocol):
    """A validator at work."""

    def find_faults(self, drafts: Sequence[Draft]) -> list[str]:
        """Return why each draft is rejected, or an empty text."""

    def accept(self, drafts: Sequence[Draft]) -> None:
        """Take note of drafts that every validator accepted."""


@dataclass(frozen=True)
class Scene:
    """What drafts are compared with.

    Attributes:
        section: the recipe's.
        known: train rows and seeds.
        held_out: validation and test rows.
        teacher: as in the task.
        checker: what round_trip asks.
        check: round_trip's template, if it has one.
        seed: of the recipe.
    """

    section: SynthesizeSection
    known: Sequence[Row]
    held_out: Sequence[Row]
    teacher: Teacher
    checker: Teacher
    check: Template | None
    seed: int


@dataclass(frozen=True)
class Validator:
    """One reason to reject.

    Attributes:
        summary: for the reference.
        made_by: module of this package and its function that makes the check of a scene.
        is_on: whether the recipe asks for it.
    """

    summary: str
    made_by: str
    is_on: Callable[[Validators], bool]

    def make(self, scene: Scene) -> Check:
        """Return the check for what the scene holds."""
        module, _, name = self.made_by.partition(".")
        found: Callable[[Scene], Check] = getattr(import_module(f"{__name__}.{module}"), name)
        return found(scene)


VALIDATORS: dict[str, Validator] = {
    "content": Validator(
        "length, regex and JSON schema of the answer", "content.ContentCheck", lambda on: True
    ),
    "labels": Validator(
        "the answer is a train row's", "content.LabelCheck", lambda on: on.labels
    ),
    "language": Validator(
        "language of the prompt", "language.LanguageCheck", lambda on: on.language is not None
    ),
    "duplicate": Validator(
        "equal to a seed row or an earlier written row", "copies.DuplicateCheck",
        lambda on: on.duplicate,
    ),
    "leakage": Validator(
        "equal to a validation or test prompt", "copies.LeakageCheck", lambda on: on.leakage
    ),
    "round_trip": Validator(
        "the answer when asked again", "asked.RoundTripCheck", lambda on: on.round_trip
    ),
    "agreement": Validator(
        "samples of the answer agree", "asked.AgreementCheck", lambda on: on.agreement is not None
    ),
}  # fmt: skip


def validate(checks: Sequence[Check], drafts: Sequence[Draft]) -> list[str]:
    """Return why each draft is rejected, or an empty text: the first reason that was found."""
    reasons = [draft.fault for draft in drafts]
    for check in checks:
        left = [number for number, reason in enumerate(reasons) if not reason]
        if not left:
            break
        found = check.find_faults([drafts[number] for number in left])
        for number, reason in zip(left, found, strict=True):
            reasons[number] = reason
    accept(checks, [d for d, reason in zip(drafts, reasons, strict=True) if not reason])
    return reasons


def accept(checks: Sequence[Check], drafts: Sequence[Draft]) -> None:
    """Tell every check which drafts are accepted."""
    for check in checks:
        check.accept(drafts)
