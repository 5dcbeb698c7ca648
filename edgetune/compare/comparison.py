"""Result of a comparison: checks with their numbers, faults with a name and a remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

#: The checks in the order in which they mean something.
CHECKS = ("tokenizer", "template", "stopping", "weights")


@dataclass(frozen=True)
class Check:
    """One of the four comparisons.

    Attributes:
        name: ``tokenizer``, ``template``, ``stopping`` or ``weights``.
        ok: whether it holds; ``None`` where it could not be evaluated.
        what: one sentence for a person.
        figures: the numbers, as JSON values.
    """

    name: str
    ok: bool | None
    what: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """A cause found in the files.

    Attributes:
        kind: the check it breaks.
        name: the fault, such as ``adapter_applied_twice``.
        what: what is wrong, with the numbers.
        where: file, key or tensor.
        advice: what to do.
    """

    kind: str
    name: str
    what: str
    where: str
    advice: str


@dataclass(frozen=True)
class Comparison:
    """The verdict on a pair.

    Attributes:
        reference, candidate: the two models, as
            :meth:`edgetune.compare.model_spec.ModelSpec.to_json` describes them.
        kind: ``lossless`` or ``lossy``.
        checks: the four, in order.
        faults: causes found, the likeliest first; may be empty when a check fails.
        notes: what was seen and decides nothing: differences that the models' answers do not show,
            and what had to be assumed.
    """

    reference: dict[str, Any]
    candidate: dict[str, Any]
    kind: str
    checks: list[Check]
    faults: list[Fault]
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no check failed and no fault was found."""
        return all(check.ok is not False for check in self.checks) and not self.faults

    @property
    def failing_check(self) -> str | None:
        """The first check that fails, or that a fault breaks."""
        broken = {check.name for check in self.checks if check.ok is False}
        broken |= {fault.kind for fault in self.faults}
        return next((name for name in CHECKS if name in broken), None)

    def find(self, name: str) -> Check:
        """Return one of the four checks."""
        return next(check for check in self.checks if check.name == name)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "schema": 1,
            "verdict": "pass" if self.ok else "fail",
            "failing_check": self.failing_check,
            "class": self.kind,
            "reference": self.reference,
            "candidate": self.candidate,
            "checks": [asdict(check) for check in self.checks],
            "faults": [asdict(fault) for fault in self.faults],
            "notes": self.notes,
        }
