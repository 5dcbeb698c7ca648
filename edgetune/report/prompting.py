"""What the report says of prompts for the untouched base, against the tuned model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetune.artifact import Artifact
from edgetune.facts import BenchFacts, PromptedModel, from_json, to_json
from edgetune.measure.prompting import was_tuning_needed
from edgetune.report.format import NONE, milliseconds, percent, size

PROMPTING_TITLES = (
    "Model and prompt", "Size", "Exact match", "Tuned minus it", "Tokens per request",
    "Time per request",
)  # fmt: skip


def find_prompting(bench: Artifact | None) -> dict[str, Any] | None:
    """Return ``models``, ``best``, ``asked`` and ``verdict`` in words; ``None`` if not measured."""
    found = from_json(BenchFacts, bench.facts).prompting if bench and bench.facts else None
    return {**to_json(found), "verdict": was_tuning_needed(found)} if found else None


def prompting_rows(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return the name and the cells of each model and prompt that was measured."""
    found = report.get("prompting") or {}
    models = [from_json(PromptedModel, one) for one in found.get("models", [])]
    return [(one.name, _cells(one)) for one in models if one.measurements]


def _cells(one: PromptedModel) -> list[str]:
    figures = {figure.name: figure for figure in one.measurements}
    exact = figures["exact_match"]
    low, high = exact.ci95 or (exact.value, exact.value)
    change = NONE
    if one.difference:
        ends = one.difference["ci95"]
        change = (
            f"{100 * one.difference['difference']:+.1f} points "
            f"({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})"
        )
    return [
        size(one.bytes),
        f"{percent(exact.value)} ({percent(low)} to {percent(high)})",
        change,
        f"{figures['request_tokens'].value:,.0f}",
        milliseconds(figures["request_ms_p50"].value),
    ]
