"""Whether distillation won: the student against the same student trained without the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from edgetune.report.figures import (
    Definitions,
    higher_is_better,
    write_difference,
    write_interval,
    write_value,
)
from edgetune.report.format import measured, with_role
from edgetune.report.kept import name_metric
from edgetune.report.pairs import compare_models, is_certain

EXACT = "exact_match"
_ROLES = {"teacher": "teacher", "student": "merged", "baseline": "baseline"}


def compare_distillation(
    models: Sequence[dict[str, Any]],
    evaluation: Mapping[str, Any] | None = None,
    definitions: Definitions = MappingProxyType({}),
) -> dict[str, Any] | None:
    """Compare student and baseline by the task's first metric, or by exact match if not graded.

    Rows are paired where answers were graded; then a difference is certain where its interval
    leaves out 0 and its corrected p value is below 0.05, as everywhere in the report.

    Args:
        models: of the report.
        evaluation: the report's; None where nothing was graded.
        definitions: by metric.

    Returns:
        None unless both were measured. ``metric``, ``teacher``, ``baseline`` and ``student``
        (measurements), ``difference`` with ``ci95`` and ``n``, ``gap_recovered`` (fraction of the
        gap from baseline to teacher) and ``verdict``: ``won``, ``lost``, or ``no significant
        difference``.
    """
    student, baseline = with_role(models, "merged"), with_role(models, "baseline")
    if student is None or baseline is None:
        return None
    headline = str((evaluation or {}).get("task", {}).get("headline", EXACT))
    for metric in dict.fromkeys((headline, EXACT)):
        pair = compare_models(baseline, student, metric, evaluation, definitions)
        if pair is not None:
            break
    else:
        return None
    sign = 1 if higher_is_better(metric) else -1
    verdict = "no significant difference"
    if is_certain(pair):
        verdict = "won" if sign * pair["difference"] > 0 else "lost"
    found = {name: measured(with_role(models, role) or {}, metric) for name, role in _ROLES.items()}
    teacher, before = found["teacher"], found["baseline"]
    gap = 0.0
    if teacher is not None and teacher["value"] is not None and before is not None:
        gap = teacher["value"] - before["value"]
    return {
        "metric": metric,
        **found,
        "difference": pair["difference"],
        "ci95": pair["ci95"],
        "n": pair["n"],
        "gap_recovered": pair["difference"] / gap if sign * gap > 0 else None,
        "verdict": verdict,
    }


def tell_difference(found: Mapping[str, Any], definitions: Definitions) -> str:
    """Return a comparison in words: ``+5.4 points of accuracy (95 % interval …, n = 300)``."""
    metric = str(found.get("metric", EXACT))
    text = write_difference(found["difference"], metric, definitions)
    ends = write_interval(found.get("ci95"), metric, definitions, "+")
    parts = [f"95 % interval {ends}"] if ends else []
    parts += [f"n = {found['n']:,}"] if found.get("n") else []
    around = f" ({', '.join(parts)})" if parts else ""
    return f"{text} of {name_metric(metric, definitions)}{around}"


def tell_scores(found: Mapping[str, Any], definitions: Definitions) -> str:
    """Return the scores of a comparison: ``teacher 96.3 %, student 94.7 %, baseline 89.3 %``."""
    metric = str(found.get("metric", EXACT))
    return ", ".join(
        f"{name} {write_value(found[name]['value'], metric, definitions)}"
        for name in _ROLES
        if found.get(name)
    )
