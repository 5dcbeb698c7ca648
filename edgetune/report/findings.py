"""What the figures say: the sentence on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from edgetune.report.figures import Definitions, write_value
from edgetune.report.format import (
    measured,
    percent,
    reference,
    short_name,
    size,
    times,
    value_of,
)
from edgetune.report.kept import Kept, find_kept, find_lowness, name_metric, write_loss
from edgetune.report.pairs import compare_models

_WITHOUT_TEACHER = (
    "What ships is the student trained without the teacher: on validation rows it was better than "
    "the distilled one, or the recipe asks for it."
)
AGREEMENT = 0.97  # of top tokens: a file above it says most of what its reference does
_INSTEAD = "look at KL divergence and perplexity instead."


def find_headline(
    models: Sequence[dict[str, Any]],
    shipped: str | None = None,
    evaluation: Mapping[str, Any] | None = None,
    definitions: Definitions = MappingProxyType({}),
) -> dict[str, Any]:
    """Return ``text`` and, where a file was measured, which ``model`` it speaks of.

    The model is the smallest file that loses no more of the reference's score than
    :mod:`edgetune.report.kept` tolerates; where none does, the one of the best score. ``outcome``
    is ``kept``, ``lost`` or ``open`` (neither is certain), ``difference`` with ``ci95`` that of
    the scores, ``ratio`` that of the sizes. Where the score says nothing or is not measured, it
    is the agreement of top tokens instead, and the text says so; such remarks are its end, and
    ``note`` alone.

    Args:
        models: of the report.
        shipped: ``baseline`` where the student trained without the teacher was better, which the
            text says too.
        evaluation: the report's, whose task says what the score is; None where nothing was graded
            and exact match is.
        definitions: by metric.
    """
    metric = str((evaluation or {}).get("task", {}).get("headline", "exact_match"))
    against = reference(models)
    files = [model for model in models if model["role"] == "file"]
    silent = _find_silent_score(models, against, metric, evaluation, definitions)
    notes = [silent, _WITHOUT_TEACHER] if shipped == "baseline" else [silent]
    note = " ".join(part for part in notes if part)
    found = None
    if against is not None and not silent:
        found = _find_by_score(against, files, metric, evaluation, definitions)
    if against is not None and found is None:
        found = _find_by_agreement(against, files)
    if found is not None:
        return {**found, "text": f"{found['text']} {note}".strip(), "note": note}
    text = "No file was measured in this run." if not files else "No file could be compared."
    return {"text": f"{text} {note}".strip(), "note": note, "model": None}


def _find_by_score(
    against: dict[str, Any], files: Sequence[dict[str, Any]], metric: str,
    evaluation: Mapping[str, Any] | None, definitions: Definitions,
) -> dict[str, Any] | None:  # fmt: skip
    """Return the smallest file that keeps the score, or that of the best; None without scores."""
    whole = measured(against, metric)
    compared: list[tuple[Kept, dict[str, Any]]] = []
    for file in files if whole else ():
        pair = compare_models(against, file, metric, evaluation, definitions)
        if whole and pair:
            compared.append((find_kept(pair, whole, definitions), file))
    if whole is None or not compared:
        return None
    within = [one for one in compared if one[0].within]
    kept, best = (
        min(within, key=lambda one: one[1]["bytes"])
        if within
        else max(compared, key=lambda one: one[0].gain)
    )
    does = "keeps the score" if kept.within else f"loses {write_loss(kept, definitions)}"
    if kept.outcome == "lost":
        does = f"loses {write_loss(kept, definitions)}"
    elif kept.outcome == "open":
        does = f"perhaps {does}"
    score = write_value(value_of(best, metric), metric, definitions)
    text = (
        f"{short_name(best)} {does} in {_tell_size(best, against)}: {score} "
        f"{name_metric(metric, definitions)}, the {against['role']}’s "
        f"{write_value(whole['value'], metric, definitions)}."
    )
    return {
        "text": text,
        "model": best["name"],
        "score": metric,
        "outcome": kept.outcome,
        "difference": kept.pair["difference"],
        "ci95": kept.pair.get("ci95"),
        "ratio": against["bytes"] / best["bytes"],
    }


def _find_by_agreement(
    against: dict[str, Any], files: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """Return the smallest file that agrees with the reference; None where that is not measured."""
    scored = [(value_of(file, "top1_answer_tokens"), file) for file in files]
    known = [(value, file) for value, file in scored if value is not None]
    if not known:
        return None
    enough = [one for one in known if one[0] >= AGREEMENT]
    value, best = (
        min(enough, key=lambda one: one[1]["bytes"])
        if enough
        else max(known, key=lambda one: one[0])
    )
    text = (
        f"{short_name(best)} agrees with the {against['role']} on {percent(value)} of answer "
        f"tokens in {_tell_size(best, against)}."
    )
    ratio = against["bytes"] / best["bytes"]
    return {"text": text, "model": best["name"], "score": "top1_answer_tokens", "ratio": ratio}


def _tell_size(best: dict[str, Any], against: dict[str, Any]) -> str:
    ratio = against["bytes"] / best["bytes"]
    return size(best["bytes"]) + (f", {times(ratio)} smaller" if ratio >= 1 else "")


def _find_silent_score(
    models: Sequence[dict[str, Any]], against: dict[str, Any] | None, metric: str,
    evaluation: Mapping[str, Any] | None, definitions: Definitions,
) -> str:  # fmt: skip
    """Return a sentence where a score tells nothing: the same for all, or too low to be kept."""
    values = [value_of(model, metric) for model in models]
    scores = [value for value in values if value is not None]
    if len(scores) > 1 and len(set(scores)) == 1:
        title = name_metric(metric, definitions)
        same = write_value(scores[0], metric, definitions)
        return (
            f"{title[:1].upper()}{title[1:]} is {same} for every model and says nothing: {_INSTEAD}"
        )
    whole = measured(against, metric) if against else None
    if against is None or whole is None:
        return ""
    commonest = (evaluation or {}).get("commonest") or 0.0
    lowness = find_lowness(whole, commonest, definitions)
    if not lowness:
        return ""
    title, value = (
        name_metric(metric, definitions),
        write_value(whole["value"], metric, definitions),
    )
    alone = f", the commonest answer alone would have {percent(commonest)}"
    return (
        f"{title[:1].upper()}{title[1:]} of the {against['role']} is {value}"
        f"{alone if lowness == 'chance' else ''}: too low to say that a file keeps it; {_INSTEAD}"
    )
