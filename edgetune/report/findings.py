"""What the figures say: the sentence on top, the gates, and whether distillation won."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import sqrt
from typing import Any

from edgetune.measure.definitions import RENAMED
from edgetune.recipe import Gate
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


def find_headline(models: Sequence[dict[str, Any]], shipped: str | None = None) -> dict[str, Any]:
    """Return ``text`` and, where a file was measured, which ``model`` it speaks of.

    The model is the smallest file that keeps 97 % of the reference's score; where none does, the
    one that keeps most. ``kept`` is the fraction of the score, ``ratio`` that of the sizes.
    The score is the task's exact match; where that tells no model from another or is not measured,
    it is the agreement of top tokens, and the text says so; such remarks are its end, and ``note``
    alone. ``shipped`` is ``baseline`` where the
    student trained without the teacher was better, which the text says too.
    """
    against = reference(models)
    files = [model for model in models if model["role"] == "file"]
    silent = _find_silent_score(models, against)
    notes = [silent, _WITHOUT_TEACHER] if shipped == "baseline" else [silent]
    note = " ".join(part for part in notes if part)
    for name in ("exact_match", "top1_answer_tokens"):
        whole = value_of(against, name) if name == "exact_match" else 1.0
        scored = [(value_of(file, name), file) for file in files]
        kept = [(score / whole, file) for score, file in scored if score is not None and whole]
        if against is None or not kept or (name == "exact_match" and silent):
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
            if name == "exact_match"
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


def _find_silent_score(models: Sequence[dict[str, Any]], against: dict[str, Any] | None) -> str:
    """Return a sentence where exact match tells nothing: the same for all, or 0 to compare with."""
    scores = [value_of(model, "exact_match") for model in models]
    scores = [score for score in scores if score is not None]
    rests = "look at KL divergence and perplexity instead."
    if len(scores) > 1 and len(set(scores)) == 1:
        return f"Exact match is {percent(scores[0])} for every model and says nothing: {rests}"
    if against is not None and value_of(against, "exact_match") == 0:
        return f"Exact match of the {against['role']} is {percent(0)} and says nothing: {rests}"
    return ""


def check_gates(gates: Sequence[Gate], models: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``{"name", "limit", "value", "ok"}`` for each limit and each model it speaks of.

    A gate that no measurement answers to fails: it was asked for and nothing was checked. Figures
    of other KV caches than llama.cpp's own choice are there to be compared, not to be held.
    """
    checked = []
    for gate in gates:
        wanted = RENAMED.get(gate.measurement, gate.measurement)
        found = [
            (model["name"], one["value"])
            for model in models
            if fnmatchcase(model["name"], gate.models)
            for one in model["measurements"]
            if one["name"] == wanted and "kv_cache" not in one["where"]
        ]
        for sign, limit in (("≥", gate.min), ("≤", gate.max)):
            if limit is None:
                continue
            for name, value in found or [(gate.models, None)]:
                inside = value is not None and (value >= limit if sign == "≥" else value <= limit)
                title = f"{wanted} of {name} {sign} {limit:g}"
                checked.append({"name": title, "limit": limit, "value": value, "ok": inside})
    return checked


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
    difference, bounds = _difference(student, baseline)
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


def _difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, list[float]]:
    """Difference of two fractions with its 95 % interval, from their score intervals.

    Newcombe 1998, Statistics in Medicine 17, 873-890, method 10. The models answer the same rows,
    so the true interval is narrower: a win that is claimed here is one.
    """
    a, (a_low, a_high) = one["value"], one.get("ci95") or [one["value"]] * 2
    b, (b_low, b_high) = other["value"], other.get("ci95") or [other["value"]] * 2
    below = sqrt((a - a_low) ** 2 + (b_high - b) ** 2)
    above = sqrt((a_high - a) ** 2 + (b - b_low) ** 2)
    return a - b, [a - b - below, a - b + above]
