"""Decide on the weights: the measured KL decides, differences between files explain it.

A difference between tensors says nothing by itself: a folder may be rounded otherwise, or this
house may reckon the right weights wrongly. A KL says nothing of its cause. So

- a KL above the limit fails, explained or not; but a file that is as far away as our own copy in
  the same types, and in which no tensor is faulty, shows what rounding to them costs this model;
- a KL that two runtimes have of the same weights passes, and differences are notes;
- in between, a faulty tensor fails the file if the KL is above that of our own copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edgetune.compare.comparison import Check, Fault
from edgetune.compare.model_spec import LOSSLESS_KL, ModelSpec

#: KL in nats that equal weights show: in one runtime (1e-12 is usual), and in two (up to 7e-8).
SAME_RUNTIME, OTHER_RUNTIME = 1e-8, 2e-7
OWN_FACTOR = 2  # a right file is at most so many times as far away as our own of its types


def decide(
    reference: ModelSpec, candidate: ModelSpec, check: Check, faults: Sequence[Fault],
    measure_own: Callable[[], float | None],
) -> tuple[Check, list[Fault], list[str]]:  # fmt: skip
    """Return the check of the weights, the faults that count, and the others as notes.

    Args:
        reference: the model compared with.
        candidate: the model evaluated.
        check: the measured check of the weights.
        faults: what was found in the files.
        measure_own: returns the KL of ``reference`` to our own copy of it in the types of
            ``candidate``; ``None`` where none can be made.
    """
    ours = [fault for fault in faults if fault.kind == "weights"]
    others = [fault for fault in faults if fault.kind != "weights"]
    kl = check.figures.get("kl_mean")
    if kl is None:
        return check, list(faults), []
    noise = SAME_RUNTIME if reference.format == candidate.format == "hf" else OTHER_RUNTIME
    if kl <= noise:  # whatever the top tokens: those of near ties
        return replace(check, ok=True), others, [_note(fault, kl) for fault in ours]
    exact = (
        candidate.scheme == "nf4"
        or LOSSLESS_KL.get(candidate.scheme, 1.0) <= LOSSLESS_KL["float32"]
    )
    if exact or not (ours or check.ok is False):
        return (_fail(check) if ours else check), [*others, *ours], []
    own = measure_own()
    if own is None:
        return (_fail(check) if ours else check), [*others, *ours], []
    check = replace(check, figures={**check.figures, "kl_requantized": own})
    as_own = kl <= max(noise, OWN_FACTOR * own)
    if check.ok is False:
        if as_own and not ours:
            summary = f"{check.what}; a right copy in these types has {own:.2e}"
            return replace(check, ok=True, what=summary), others, []
        return check, [*others, *ours], []
    if as_own:
        return check, others, [_note(fault, kl, own) for fault in ours]
    summary = f"{check.what}; a right copy in these types has {own:.2e}"
    return replace(check, ok=False, what=summary), [*others, *ours], []


def _fail(check: Check) -> Check:
    """A fault that is measurable breaks the check, also where the KL is below its limit."""
    return replace(check, ok=False)


def _note(fault: Fault, kl: float, own: float | None = None) -> str:
    name = fault.name.replace("_", " ")
    summary = f"{name}: {fault.what}, at {fault.where}; it changes no answer: KL {kl:.1e}"
    return summary if own is None else f"{summary}, {own:.1e} in a right copy"
