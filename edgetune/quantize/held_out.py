"""Compare two versions of a file's quants by their KL on the same held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetune.errors import InputError
from edgetune.measure.statistics import Estimate, ratio_of_sums
from edgetune.quantize.calibration.kl_meter import KLMeter
from edgetune.quantize.candidates import Candidates


@dataclass(frozen=True)
class Comparison:
    """The KL of two versions of a file to its model.

    Attributes:
        before: of the simpler version, mean over positions, in nats.
        after: of the other.
        difference: ``after - before`` with the interval of the pairs: rows are the sampling unit.
        positions: how many were compared.
    """

    before: float
    after: float
    difference: Estimate
    positions: int

    @property
    def kept(self) -> bool:
        """Whether the other version is better by more than the rows could show by chance."""
        return self.difference.ci95 is not None and self.difference.ci95[1] < 0

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of the stage's artifact."""
        interval = self.difference.ci95
        return {
            "kl_before": self.before,
            "kl_after": self.after,
            "kl_difference": self.difference.value,
            "kl_difference_ci95": None if interval is None else list(interval),
            "kept": self.kept,
            "rows": self.difference.n,
            "positions": self.positions,
        }

    def __str__(self) -> str:
        interval = self.difference.ci95
        summary = f"KL {self.before:.3g} → {self.after:.3g} on {self.difference.n} "
        if interval is None:
            return f"{summary}rows, no interval: not kept"
        low, high = interval
        verdict = "kept" if self.kept else "not kept, the interval does not lie below zero"
        return f"{summary}rows (difference {low:+.2g} to {high:+.2g}, 95 % interval): {verdict}"


def compare_held_out(
    model: Any, candidates: Candidates, types: Mapping[str, str], before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray], rows: Sequence[Sequence[int]],
) -> Comparison:  # fmt: skip
    """Compare two versions of a file's tensors, every position of every row.

    Args:
        model: in torch, unrounded.
        candidates: its matrices.
        types: tensor name to type.
        before: tensor name to bytes, rows in the model's own order: the simpler version.
        after: the other.
        rows: token ids; neither version was made with them.

    Raises:
        InputError: there is no row of two tokens.
    """
    if not any(len(ids) > 1 for ids in rows):
        raise InputError(
            "no held-out row has two tokens to evaluate the quantization method on",
            where="data.validation",
            hint="name validation rows, or set quantize.method: rtn",
        )
    meter = KLMeter(model, rows, sum(map(len, rows)))
    sum_before, sum_after = (
        meter.measure_rows(candidates.as_parameters(raw, types)) for raw in (before, after)
    )
    return compare_rows(sum_before, sum_after, meter.counts)


def compare_rows(before: np.ndarray, after: np.ndarray, counts: Sequence[int]) -> Comparison:
    """Return the comparison of two versions by the sums of their KL over each row, [rows].

    Args:
        before: of the simpler version, in nats.
        after: of the other.
        counts: positions of each row.
    """
    positions = sum(counts)
    mean_before, mean_after = (float(sums.sum()) / positions for sums in (before, after))
    difference = Estimate(mean_after - mean_before, len(counts))
    if np.isfinite(before).all() and np.isfinite(after).all():
        difference = ratio_of_sums(np.subtract(after, before).tolist(), counts)
    return Comparison(mean_before, mean_after, difference, positions)
