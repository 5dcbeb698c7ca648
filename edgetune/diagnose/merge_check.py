"""Check a merge: is the adapter in the weights once, whole, at its scale, in its own base?

For each tuned weight the change that should have been made, D = scale · B A, is looked for in the
change that was made, E = found − base: c = <E, D> / <D, D>. Rounding is uncorrelated with D, so c
stays within a percent even under 4-bit weights whose rounding is larger than D itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgetune.compare.comparison import Fault
from edgetune.diagnose.tensor_diff import own_rounding
from edgetune.diagnose.tensors import Tensors

NEAR = 0.15  # how far c may lie from 0, 1 or 2 and still be taken for it
QUIET = 1e-7  # |D| / |W| below which an adapter changed nothing that could be found


@dataclass(frozen=True)
class MergedTensor:
    """One tuned weight: the coefficient c of its change, and the residual that c leaves.

    ``rest`` is relative to the weight's norm, with the rounding of its storage already taken off.
    """

    tensor: str
    coefficient: float
    rest: float
    change: float


def measure_merge(base: Tensors, merged: Tensors, found: Tensors) -> list[MergedTensor]:
    """Return a :class:`MergedTensor` for every weight that the adapter changes.

    Args:
        base: the weights before, full precision.
        merged: the weights as they should be, full precision.
        found: the file's.
    """
    folds = []
    for name, entry in base.entries.items():
        there = merged.entries.get(name), found.entries.get(name)
        if None in there or any(one and one.shape != entry.shape for one in there):
            continue
        before = base.read(name)
        change = merged.read(name) - before
        norm, size = float(np.linalg.norm(before)) or 1.0, float(np.linalg.norm(change))
        if size <= QUIET * norm:
            continue
        made = found.read(name) - before
        share = float((made * change).sum()) / size**2
        rest = float(np.linalg.norm(made - share * change)) / norm
        allowed = own_rounding(before, found.entries[name].type)
        folds.append(MergedTensor(name, share, max(0.0, rest - 1.35 * allowed), size / norm))
    return folds


def find_merge_fault(candidates: Sequence[list[MergedTensor]], where: str) -> Fault | None:
    """Name what went wrong, or none.

    Args:
        candidates: the merge measured over each base that would be right (original,
            NF4-dequantized); the one with the smallest residual counts.
        where: the file.
    """
    candidates = [folds for folds in candidates if folds]
    if not candidates:
        return None
    folds = min(candidates, key=lambda each: float(np.median([fold.rest for fold in each])))
    shares = np.array([fold.coefficient for fold in folds])
    total = len(folds)

    def fault(name: str, what: str, advice: str) -> Fault:
        return Fault("weights", name, what, where, advice)

    # TokenizedText first: over another base nothing that c says can be trusted.
    foreign = [fold for fold in folds if fold.rest > max(0.02, 0.5 * fold.change)]
    if len(foreign) > total / 2:
        worst = max(foreign, key=lambda fold: fold.rest)
        return fault(
            "merged_into_wrong_base",
            f"{len(foreign)} of {total} tuned weights differ from base + adapter by more than the "
            f"adapter explains ('{worst.tensor}': {worst.rest:.1%} of its norm)",
            "merge into the base the adapter was trained on; its hash is in the tune artifact",
        )
    absent = np.abs(shares) < NEAR
    if absent.all():
        return fault(
            "adapter_not_applied",
            f"none of {total} tuned weights holds the adapter's change",
            "merge the adapter before exporting: `edgetune merge`",
        )
    if absent.any() and (np.abs(shares[~absent] - 1) < NEAR).all():
        first = next(fold.tensor for fold, gone in zip(folds, absent, strict=True) if gone)
        return fault(
            "adapter_layers_dropped",
            f"{int(absent.sum())} of {total} tuned weights lack the adapter's change, the first is "
            f"'{first}'",
            "the adapter's tensor names did not match the base's; merge again",
        )
    if (np.abs(shares - 2) < 2 * NEAR).all():
        return fault(
            "adapter_applied_twice",
            f"the adapter's change is in {total} tuned weights twice",
            "merge into the base, not into an already merged model",
        )
    median = float(np.median(shares))
    if abs(median - 1) > NEAR:
        return fault(
            "adapter_wrong_scale",
            f"the adapter's change is in the weights {median:.3g} times",
            "scale is lora_alpha / r, or lora_alpha / sqrt(r) for rsLoRA; merge again",
        )
    return None
