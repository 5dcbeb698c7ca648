"""What the report says of overfitting to the rows, and of general text that is forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetune.facts import GeneralText, from_json

#: Relative rise of the validation loss above its lowest that is more than its own wobble.
RISE = 0.01


def learning_lines(report: Mapping[str, Any]) -> list[str]:
    """Return a line for each training that overfits, and for each step's general text."""
    overfitted = [
        f"{curve['role']}: {said}"
        for curve in report.get("curves", [])
        if (said := describe_overfitting(curve["points"]))
    ]
    general = [
        f"{step['name']}: {_describe_general(from_json(GeneralText, step['general']))}"
        for step in report.get("steps", [])
        if step.get("general")
    ]
    return overfitted + general


def describe_overfitting(points: Sequence[Mapping[str, Any]]) -> str:
    """Return what a curve says of overfitting: nothing where validation and train loss both fall.

    Args:
        points: rows of ``metrics.jsonl``, of one training.
    """
    validated = [(row["step"], row["eval_loss"]) for row in points if "eval_loss" in row]
    trained = [(row["step"], row["loss"]) for row in points if "loss" in row]
    if len(validated) < 2 or not trained:
        return ""
    best, lowest = min(validated, key=lambda one: one[1])
    last, final = validated[-1]
    before = _mean_loss([loss for step, loss in trained if step <= best][-3:])
    after = _mean_loss([loss for step, loss in trained if step > best][-3:])
    if final <= lowest * (1 + RISE) or before is None or after is None or after >= before:
        return ""
    return (
        f"overfitting: from step {best:,} to {last:,} the validation loss rose from {lowest:.3f} "
        f"to {final:.3f} while the train loss fell from {before:.3f} to {after:.3f}, a gap of "
        f"{final - after:.3f} nats per token; fewer steps, patience, dropout or more rows close it"
    )


def _mean_loss(losses: Sequence[float]) -> float | None:
    return sum(losses) / len(losses) if losses else None


def _describe_general(found: GeneralText) -> str:
    low, high = found.ci95 or (float("nan"), float("nan"))
    return (
        f"perplexity of general text ({found.texts:,} texts, {found.source}) "
        f"{found.perplexity_before:.4g} before, {found.perplexity_after:.4g} after "
        f"({found.loss_change:+.3f} nats per token, {low:+.3f} to {high:+.3f})"
    )
