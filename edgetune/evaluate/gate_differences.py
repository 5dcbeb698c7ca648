"""Differences that gates hold, of all rows or of slices, paired by rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from edgetune.evaluate.differences import Named
from edgetune.evaluate.paired import estimate_pairs
from edgetune.evaluate.slice_scores import Asked, Valued, find_sliceable, slice_name
from edgetune.evaluate.slices import Slice
from edgetune.measure.bootstrap import bootstrap_difference
from edgetune.measure.statistics import Estimate

#: Scores by name, of a model.
_Scores = Mapping[str, Valued]


def find_gate_differences(
    models: Sequence[Named], slices: Sequence[Slice], asked: Sequence[Asked], rows: int
) -> list[dict[str, Any]]:
    """Return the differences that gates with a reference hold, each once, as JSON values.

    A gate holds the end of an interval, so that no test is made of them.

    Args:
        models: what their answers were graded.
        slices: which rows.
        asked: of gates.
        rows: that were asked.

    Returns:
        ``metric, candidate, reference, column, value`` (none of all rows), ``difference``
        (candidate less reference), ``ci95`` and ``n``. What has no row to pair is left out.
    """
    known = {
        one.name: {score.name: (score, values) for score, values in sliceable}
        for one in models
        for sliceable in [find_sliceable(one.graded.scores, rows)]
    }
    found: dict[tuple[str, str, str, str | None], dict[str, Any]] = {}
    for gate in asked:
        for part, candidate, reference in _find_compared(gate, [*known], slices):
            key = (gate.metric, candidate, reference, slice_name(part) if part else None)
            if key in found:
                continue
            estimate = _estimate(gate.metric, known[candidate], known[reference], part)
            if estimate is not None:
                found[key] = {
                    "metric": gate.metric, "candidate": candidate, "reference": reference,
                    "column": part.column if part else None, "value": part.value if part else None,
                    "difference": estimate.value, "n": estimate.n,
                    "ci95": list(estimate.ci95) if estimate.ci95 else None,
                }  # fmt: skip
    return list(found.values())


def _find_compared(
    gate: Asked, names: Sequence[str], slices: Sequence[Slice]
) -> Iterator[tuple[Slice | None, str, str]]:
    """Yield part, candidate and reference; of no part where a gate is of all rows."""
    if gate.reference is None:
        return
    parts: list[Slice | None] = [None]
    if gate.slice is not None:
        parts = [one for one in slices if fnmatchcase(slice_name(one), gate.slice)]
    candidates = [name for name in names if fnmatchcase(name, gate.models)]
    references = [name for name in names if fnmatchcase(name, gate.reference)]
    for part in parts:
        for candidate in candidates:
            for reference in references:
                if candidate != reference:
                    yield part, candidate, reference


def _estimate(
    metric: str, candidate: _Scores, reference: _Scores, part: Slice | None
) -> Estimate | None:
    if metric not in candidate or metric not in reference:
        return None
    (one, values), (other, others) = candidate[metric], reference[metric]
    if values is not None and others is not None:
        pairs = np.stack([values, others], axis=1)
        return estimate_pairs(pairs if part is None else pairs[part.rows])
    if one.sums is None or other.sums is None:
        return None
    if part is None:
        return bootstrap_difference(one.sums, other.sums)
    return bootstrap_difference(one.sums.take(part.rows), other.sums.take(part.rows))
