"""Gates of the recipe: limits on metrics, on slices, and on differences of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from edgetune.evaluate.predictions import PROMPTED
from edgetune.measure.definitions import RENAMED
from edgetune.recipe import Gate
from edgetune.report.pairs import difference_of


@dataclass(frozen=True)
class Held:
    """What a gate speaks of.

    Attributes:
        name: in words: metric, model, slice and reference.
        low: what is to be at least ``min``; none where nothing was measured.
        high: what is to be at most ``max``.
        certain: whether these are the ends of an interval.
    """

    name: str
    low: float | None
    high: float | None
    certain: bool = False


def check_gates(
    gates: Sequence[Gate],
    models: Sequence[dict[str, Any]],
    evaluation: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return ``{"name", "limit", "value", "ok"}`` for each limit and each model it speaks of.

    A gate that no measurement answers to fails: it was asked for and nothing was checked. Figures
    of other KV caches than llama.cpp's own choice are there to be compared, not to be held. A
    difference to a reference passes only where its 95 % interval's end does.

    Args:
        gates: of the recipe.
        models: of the report, with their measurements.
        evaluation: of the report: slices, and differences that are paired by rows.
    """
    checked = []
    for gate in gates:
        for one in list(_find_held(gate, models, evaluation or {})) or [_missing(gate)]:
            for sign, limit, value in (("≥", gate.min, one.low), ("≤", gate.max, one.high)):
                if limit is None:
                    continue
                inside = value is not None and (value >= limit if sign == "≥" else value <= limit)
                sure = ", 95 % sure" if one.certain else ""
                title = f"{one.name} {sign} {limit:g}{sure}"
                checked.append({"name": title, "limit": limit, "value": value, "ok": inside})
    return checked


def _find_held(
    gate: Gate, models: Sequence[dict[str, Any]], evaluation: Mapping[str, Any]
) -> Iterator[Held]:
    """Yield what a gate speaks of, for each of its models."""
    chosen = [model for model in models if fnmatchcase(model["name"], gate.models)]
    prompted = [one for one in evaluation.get("models", ()) if one["role"] == PROMPTED]
    others = [*models, *({"name": one["name"], "measurements": []} for one in prompted)]
    for model in chosen:
        for one in _measured(gate, model, evaluation):
            name = f"{_metric(gate)} of {model['name']}{one['of']}"
            if gate.reference is None:
                yield Held(name, one["value"], one["value"])
                continue
            for other in others:
                if other is model or not fnmatchcase(other["name"], gate.reference):
                    continue
                ends = _find_ends(gate, model, other, one, evaluation)
                yield Held(f"{name} minus {other['name']}", *ends, certain=True)


def _measured(
    gate: Gate, model: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return ``value, ci95`` and ``of`` (the slice in words) of a model's figures."""
    wanted = _metric(gate)
    if gate.slice is None:
        return [
            {**one, "of": ""}
            for one in model["measurements"]
            if one["name"] == wanted and "kv_cache" not in one["where"]
        ]
    graded = {one["name"]: one["slices"] for one in evaluation.get("models", ())}
    return [
        {"value": one["value_of_metric"], "ci95": one["ci95"], "of": f" ({_slice_name(one)})"}
        for one in graded.get(model["name"], ())
        if one["metric"] == wanted and fnmatchcase(_slice_name(one), gate.slice)
    ]


def _find_ends(
    gate: Gate, model: Mapping[str, Any], other: Mapping[str, Any], figure: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> tuple[float | None, float | None]:  # fmt: skip
    """Return the ends of the interval of a model's figure minus its reference's.

    Rows are paired where the metric is graded; else the interval is made of both figures' own,
    which is wider.
    """
    wanted = (model["name"], other["name"], _metric(gate), figure["of"])
    for one in (*evaluation.get("differences", ()), *evaluation.get("gate_differences", ())):
        of = f" ({_slice_name(one)})" if one.get("column") is not None else ""
        if one["ci95"] and (one["candidate"], one["reference"], one["metric"], of) == wanted:
            return one["ci95"][0], one["ci95"][1]
    same = [one for one in _measured(gate, other, evaluation) if one["of"] == figure["of"]]
    figures = [figure, *same[:1]]
    if len(figures) < 2 or any(one["value"] is None or not one.get("ci95") for one in figures):
        return None, None
    low, high = difference_of(*map(dict, figures))[1]
    return low, high


def _slice_name(one: Mapping[str, Any]) -> str:
    return f"{one['column']}={one['value']}"


def _metric(gate: Gate) -> str:
    return RENAMED.get(gate.measurement, gate.measurement)


def _missing(gate: Gate) -> Held:
    """Return what stands in the report where nothing was measured."""
    part = f" ({gate.slice})" if gate.slice else ""
    against = f" minus {gate.reference}" if gate.reference else ""
    return Held(f"{_metric(gate)} of {gate.models}{part}{against}", None, None)
