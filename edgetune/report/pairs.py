"""Differences of two models of a report, paired over rows where their answers were kept."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from edgetune.report.figures import Definitions, is_ratio
from edgetune.report.format import measured

CERTAIN = 0.05


def compare_models(
    reference: dict[str, Any], candidate: dict[str, Any], metric: str,
    evaluation: Mapping[str, Any] | None, definitions: Definitions,
) -> dict[str, Any] | None:  # fmt: skip
    """Return candidate less reference, paired over rows where answers were kept.

    Args:
        reference, candidate: models of the report.
        metric: that both have.
        evaluation: the report's; None where nothing was graded.
        definitions: by metric.

    Returns:
        ``metric, difference, ci95, n`` and, of a paired one, its tests; None where either has no
        such figure. Of fractions that are not paired the interval is made of both models' own.
    """
    before, after = measured(reference, metric), measured(candidate, metric)
    if before is None or after is None or None in (before["value"], after["value"]):
        return None
    for one in (evaluation or {}).get("differences", ()):
        names = (one["reference"], one["candidate"], one["metric"])
        if names == (reference["name"], candidate["name"], metric):
            return dict(one)
    difference, ends = after["value"] - before["value"], None
    if is_ratio(metric, definitions):
        difference, ends = difference_of(after, before)
    return {"metric": metric, "difference": difference, "ci95": ends, "n": after["n"]}


def is_certain(pair: Mapping[str, Any]) -> bool:
    """Return whether a difference is not zero: its interval and its corrected test say so."""
    ends, p_value = pair.get("ci95"), pair.get("p_adjusted")
    if not ends or ends[0] * ends[1] <= 0:
        return False
    return p_value is None or bool(p_value < CERTAIN)


def difference_of(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, list[float]]:
    """Return the difference of two fractions with its 95 % interval, from their own intervals.

    Newcombe 1998, Statistics in Medicine 17, 873-890, method 10. The models answer the same rows,
    so the true interval is narrower: a win that is claimed here is one.
    """
    a, (a_low, a_high) = one["value"], one.get("ci95") or [one["value"]] * 2
    b, (b_low, b_high) = other["value"], other.get("ci95") or [other["value"]] * 2
    below = sqrt((a - a_low) ** 2 + (b_high - b) ** 2)
    above = sqrt((a_high - a) ** 2 + (b - b_low) ** 2)
    return a - b, [a - b - below, a - b + above]
