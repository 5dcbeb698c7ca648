"""What the figures say: the sentence on top, and whether distillation won."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from edgetune.report.format import (
    measured,
    percent,
    reference,
    short_name,
    size,
    times,
    value_of,
    with_role,
)

_WITHOUT_TEACHER = (
    "What ships is the student trained without the teacher: on validation rows it was better than "
    "the distilled one, or the recipe asks for it."
)
KEPT = 0.97  # a file that keeps this share of the teacher's score is worth shipping


def find_headline(
    models: Sequence[dict[str, Any]], shipped: str | None = None, metric: str = "exact_match"
) -> dict[str, Any]:
    """Return ``text`` and, where a file was measured, which ``model`` it speaks of.

    The model is the smallest file that keeps 97 % of the reference's score; where none does, the
    one that keeps most. ``kept`` is the fraction of the score, ``ratio`` that of the sizes.
    The score is ``metric``, the task's; where that tells no model from another or is not measured,
    it is the agreement of top tokens, and the text says so; such remarks are its end, and ``note``
    alone. ``shipped`` is ``baseline`` where the
    student trained without the teacher was better, which the text says too.
    """
    against = reference(models)
    files = [model for model in models if model["role"] == "file"]
    silent = _find_silent_score(models, against, metric)
    notes = [silent, _WITHOUT_TEACHER] if shipped == "baseline" else [silent]
    note = " ".join(part for part in notes if part)
    for name in (metric, "top1_answer_tokens"):
        whole = value_of(against, name) if name == metric else 1.0
        scored = [(value_of(file, name), file) for file in files]
        kept = [(score / whole, file) for score, file in scored if score is not None and whole]
        if against is None or not kept or (name == metric and silent):
            continue
        enough = [pair for pair in kept if pair[0] >= KEPT]
        share, best = (
            min(enough, key=lambda pair: pair[1]["bytes"])
            if enough
            else max(kept, key=lambda pair: pair[0])
        )
        ratio = against["bytes"] / best["bytes"]
        role = against["role"]
        does = (
            f"keeps {percent(share)} of the {role}’s score"
            if name == metric
            else f"agrees with the {role} on {percent(share)} of answer tokens"
        )
        smaller = f", {times(ratio)} smaller" if ratio >= 1 else ""
        text = f"{short_name(best)} {does} in {size(best['bytes'])}{smaller}."
        return {
            "text": f"{text} {note}".strip(),
            "note": note,
            "model": best["name"],
            "score": name,
            "kept": share,
            "ratio": ratio,
        }
    text = "No file was measured in this run." if not files else "No file could be compared."
    return {"text": f"{text} {note}".strip(), "note": note, "model": None}


def _find_silent_score(
    models: Sequence[dict[str, Any]], against: dict[str, Any] | None, metric: str
) -> str:
    """Return a sentence where a score tells nothing: the same for all, or 0 to compare with."""
    scores = [value_of(model, metric) for model in models]
    scores = [score for score in scores if score is not None]
    title = metric.replace("_", " ").capitalize()
    rests = "look at KL divergence and perplexity instead."
    if len(scores) > 1 and len(set(scores)) == 1:
        return f"{title} is {percent(scores[0])} for every model and says nothing: {rests}"
    if against is not None and value_of(against, metric) == 0:
        return f"{title} of the {against['role']} is {percent(0)} and says nothing: {rests}"
    return ""


def compare_distillation(models: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Compare student and baseline by exact match; ``None`` unless both were measured.

    Returns:
        ``teacher``, ``baseline`` and ``student`` (measurements), ``difference`` with ``ci95``,
        ``gap_recovered`` (fraction of the gap from baseline to teacher) and ``verdict``: ``won``,
        ``lost``, or ``no significant difference`` when the interval of the difference holds zero.
    """
    student = measured(with_role(models, "merged") or {}, "exact_match")
    baseline = measured(with_role(models, "baseline") or {}, "exact_match")
    teacher = measured(with_role(models, "teacher") or {}, "exact_match")
    if student is None or baseline is None:
        return None
    difference, bounds = difference_of(student, baseline)
    verdict = "won" if bounds[0] > 0 else "lost" if bounds[1] < 0 else "no significant difference"
    gap = teacher["value"] - baseline["value"] if teacher else 0.0
    return {
        "teacher": teacher,
        "baseline": baseline,
        "student": student,
        "difference": difference,
        "ci95": bounds,
        "gap_recovered": difference / gap if gap > 0 else None,
        "verdict": verdict,
    }


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
