"""What the report says of synthetic rows: who wrote them, what was rejected, what they changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetune.artifact import Artifact
from edgetune.facts import ControlFacts, SynthesizeFacts, from_json, to_json


def find_synthetic(artifacts: Mapping[str, Artifact]) -> dict[str, Any] | None:
    """Return ``facts``, ``comparison``, ``verdict`` and ``lines`` in words; ``None`` without rows.

    The verdict is of the difference in exact match on validation rows, of the loss where both
    models answer nothing: ``won``, ``lost``, ``no significant difference``, or ``None`` where the
    recipe does not ask for the comparison.
    """
    made = artifacts.get("synthesize")
    if made is None:
        return None
    facts = from_json(SynthesizeFacts, made.facts)
    lines = [_describe_rows(facts)]
    control = artifacts.get("control")
    comparison, verdict = None, None
    if control is not None:
        comparison = from_json(ControlFacts, control.facts)
        verdict = _decide(comparison)
        lines.append(_describe_difference(comparison, verdict))
    return {
        "facts": to_json(facts),
        "comparison": to_json(comparison) if comparison else None,
        "verdict": verdict,
        "lines": lines,
    }


def _describe_rows(facts: SynthesizeFacts) -> str:
    who = facts.teacher.get("teacher") or facts.teacher.get("model", "")
    text = (
        f"{facts.accepted:,} of {facts.asked:,} rows that {who} wrote ({facts.task}) are in train"
    )
    if facts.failures is not None:
        text += f", seeded by {facts.failures:,} wrong answers to {facts.validation_rows:,} rows"
    rejected = ", ".join(f"{name} {count:,}" for name, count in facts.rejected.items())
    return f"{text}; rejected: {rejected}." if rejected else f"{text}; none was rejected."


def _decide(found: ControlFacts) -> str:
    exact, loss = found.figures.get("exact_match"), found.figures.get("loss")
    low, high = _bounds(exact)
    if exact is None or (low == high == 0):
        low, high = (-end for end in reversed(_bounds(loss)))  # a lower loss is better
    return "won" if low > 0 else "lost" if high < 0 else "no significant difference"


def _describe_difference(found: ControlFacts, verdict: str) -> str:
    said = {
        "won": "The synthetic rows lift the model",
        "lost": "The synthetic rows make the model worse",
        "no significant difference": "The synthetic rows make no significant difference",
    }[verdict]
    parts = []
    exact, loss = found.figures.get("exact_match"), found.figures.get("loss")
    if exact is not None:
        low, high = _bounds(exact)
        both = [100 * found.scores[name]["exact_match"] for name in ("with", "without")]
        parts.append(
            f"exact match on {exact['n']:,} validation rows is {both[0]:.1f} % with them and "
            f"{both[1]:.1f} % without ({100 * exact['difference']:+.1f} points, 95 % interval "
            f"{100 * low:+.1f} to {100 * high:+.1f})"
        )
    if loss is not None:
        low, high = _bounds(loss)
        parts.append(f"the loss changes by {loss['difference']:+.4f} ({low:+.4f} to {high:+.4f})")
    same = f"the same tuning on the {found.rows:,} other rows, for as many steps"
    return f"{said}: {'; '.join(parts)}. Compared with {same}."


def _bounds(figure: dict[str, Any] | None) -> tuple[float, float]:
    """Return the ends of an interval; of one that cannot be given, no end is known."""
    if figure is None or figure.get("ci95") is None:
        return float("-inf"), float("inf")
    low, high = figure["ci95"]
    return float(low), float(high)
