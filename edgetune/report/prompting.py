"""What the report says of prompts for the untouched base, against the tuned model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetune.artifact import Artifact
from edgetune.facts import BenchFacts, PromptedModel, PromptingFacts, from_json, to_json
from edgetune.measure.prompting import TUNED, decide, tell_cost, was_tuning_needed
from edgetune.report.evaluation import Evaluation
from edgetune.report.figures import (
    Definitions,
    higher_is_better,
    write_difference,
    write_interval,
    write_value,
)
from edgetune.report.format import NONE, milliseconds, size
from edgetune.report.kept import name_metric

EXACT = "exact_match"


def find_prompting(
    bench: Artifact | None, evaluation: Evaluation | None = None
) -> dict[str, Any] | None:
    """Return what bench found of prompts, compared by the task's first metric if answers have it.

    Args:
        bench: its artifact, if there is one.
        evaluation: what was graded; None where nothing was.

    Returns:
        None if no prompt was measured, else ``models`` and ``asked`` as bench has them, the
        ``metric`` they are compared by, ``scores`` (``name, value, ci95, n, difference`` to the
        tuned model, by it), ``best`` and ``verdict`` in words.
    """
    found = from_json(BenchFacts, bench.facts).prompting if bench and bench.facts else None
    if found is None:
        return None
    kept = {**to_json(found), "metric": EXACT}
    scores = _match_scores(found, evaluation.part.get("prompts", ()) if evaluation else ())
    if evaluation is None or not scores:
        return {**kept, "scores": _exact_scores(found), "verdict": was_tuning_needed(found)}
    metric = scores[0]["metric"]
    named = {one.name: one for one in found.models}
    sign = 1 if higher_is_better(metric) else -1
    best = max(
        (one for one in scores if one["name"] != TUNED),
        key=lambda one: (sign * one["value"], -named[one["name"]].measurements[1].value),
    )
    verdict = _tell(scores, best, named, evaluation.definitions)
    return {**kept, "metric": metric, "scores": scores, "best": best["name"], "verdict": verdict}


def _match_scores(
    found: PromptingFacts, graded: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the graded score of each model and prompt that was measured; none unless all have one.

    A prompt whose answers are those of the base is not kept beside it, and has its score.
    """
    by_name = {one["name"]: one for one in graded}
    tuned = next((one for one in graded if one["role"] not in ("base", "prompted")), None)
    scores = []
    for one in found.models:
        if one.measurements:
            score = tuned if one.name == TUNED else by_name.get(one.name) or by_name.get("base")
            if score is None:
                return []
            scores.append({**score, "name": one.name})
    complete = {TUNED} < {one["name"] for one in scores}
    return scores if complete else []


def _exact_scores(found: PromptingFacts) -> list[dict[str, Any]]:
    scores = []
    for one in found.models:
        if one.measurements:
            exact = one.measurements[0]
            scores.append(
                {"name": one.name, "metric": EXACT, "value": exact.value, "ci95": exact.ci95,
                 "n": exact.n, "difference": one.difference}
            )  # fmt: skip
    return scores


def _tell(
    scores: Sequence[Mapping[str, Any]], best: Mapping[str, Any],
    named: Mapping[str, PromptedModel], definitions: Definitions,
) -> str:  # fmt: skip
    """Return in words whether tuning was needed."""
    tuned = next(one for one in scores if one["name"] == TUNED)
    metric, change = str(tuned["metric"]), best["difference"]
    if change is None:
        return ""
    sign = 1 if higher_is_better(metric) else -1
    low, high = sorted(sign * end for end in change["ci95"] or (float("-inf"), float("inf")))
    ends = write_interval(change["ci95"], metric, definitions, "+")
    interval = f", 95 % interval {ends}" if ends else ""
    values = [write_value(one["value"], metric, definitions) for one in (tuned, best)]
    return (
        f"{decide(low, high)}. The tuned model has {values[0]} "
        f"{name_metric(metric, definitions)} on {tuned['n']:,} test rows, the best prompt "
        f"({best['name']}) {values[1]}: "
        f"{write_difference(change['difference'], metric, definitions)}{interval}. "
        f"{tell_cost(named[TUNED], named[best['name']])}"
    )


def prompting_titles(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return title and metric of each column of the table of prompts."""
    metric = str((report.get("prompting") or {}).get("metric", EXACT))
    known = report.get("definitions", {}).get(metric, {})
    title = str(known.get("title") or metric.replace("_", " ").capitalize())
    return [
        ("Model and prompt", ""), ("Size", "bytes"), (title, metric),
        ("Tuned minus it", "difference"), ("Tokens per request", "request_tokens"),
        ("Time per request", "request_ms_p50"),
    ]  # fmt: skip


def prompting_rows(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return the name and the cells of each model and prompt that was measured."""
    found = report.get("prompting") or {}
    models = {one["name"]: from_json(PromptedModel, one) for one in found.get("models", [])}
    definitions = report.get("definitions", {})
    return [
        (one["name"], _cells(models[one["name"]], one, definitions))
        for one in found.get("scores", [])
    ]


def _cells(one: PromptedModel, score: Mapping[str, Any], definitions: Definitions) -> list[str]:
    metric = str(score["metric"])
    figures = {figure.name: figure for figure in one.measurements}
    change = NONE
    if score["difference"]:
        ends = write_interval(score["difference"]["ci95"], metric, definitions, "+")
        change = write_difference(score["difference"]["difference"], metric, definitions)
        change += f" ({ends})" if ends else ""
    ends = write_interval(score["ci95"], metric, definitions)
    return [
        size(one.bytes),
        write_value(score["value"], metric, definitions) + (f" ({ends})" if ends else ""),
        change,
        f"{figures['request_tokens'].value:,.0f}",
        milliseconds(figures["request_ms_p50"].value),
    ]
