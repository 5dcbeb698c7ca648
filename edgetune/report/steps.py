"""What the report says of the steps of a tuning: objective, losses, and what each step gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetune.artifact import Artifact
from edgetune.facts import StepGain, TuneFacts, from_json, to_json
from edgetune.report.curves import count_validation_rows
from edgetune.report.format import NONE, percent
from edgetune.report.learning import learning_lines
from edgetune.report.tables import Cell

STEP_TITLES = ("Step", "Train rows", "Steps", "Validation loss", "Exact match", "Loss")


def find_steps(artifacts: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Return each step of the tuning, in order, as JSON values.

    Returns:
        ``name, objective, trainer, method, steps, rows, train_loss, validation_loss, figures,
        gain, general``; gain is of exact match and loss on the same validation rows, after minus
        before.
    """
    found = []
    for artifact in artifacts.values():
        if artifact.stage != "tune":
            continue
        facts = from_json(TuneFacts, artifact.facts)
        found.append(
            {
                "name": facts.step or facts.objective,
                "objective": facts.objective,
                "trainer": facts.trainer,
                "method": facts.method,
                "steps": facts.steps,
                "rows": facts.tokens.get("rows"),
                "train_loss": facts.train_loss,
                "validation_loss": facts.validation_loss,
                "figures": facts.figures,
                "gain": to_json(facts.gain) if facts.gain else None,
                "general": to_json(facts.general) if facts.general else None,
            }
        )
    return found


def step_rows(report: Mapping[str, Any]) -> list[tuple[str, str, list[Cell]]]:
    """Return name, objective and cells of each step, where there are several or one was compared.

    A gain is what the validation rows of the whole recipe say: after the step minus before it, with
    its 95 % interval.
    """
    steps = report.get("steps", [])
    if len(steps) < 2 and not any(one.get("gain") for one in steps):
        return []
    validated = count_validation_rows(report, "tune")
    return [(one["name"], one["objective"], _cells(one, validated)) for one in steps]


def figure_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what each objective measured of its own, overfitting, and general text, by line."""
    own = [
        f"{one['name']}: {'; '.join(_tell(figures))}."
        for one in report.get("steps", [])
        if (figures := one.get("figures"))
    ]
    return own + learning_lines(report)


def _tell(figures: Mapping[str, float]) -> list[str]:
    """Return each figure in words, with its 95 % interval where it has ends."""
    said = []
    for name, value in figures.items():
        if name.endswith(("_low", "_high")):
            continue
        text = f"{name.replace('_', ' ')} {value:.3g}"
        if f"{name}_low" in figures:
            text += f" ({figures[f'{name}_low']:.3g} to {figures[f'{name}_high']:.3g})"
        said.append(text)
    return said


def _cells(step: Mapping[str, Any], validated: int) -> list[Cell]:
    gain = from_json(StepGain, step["gain"]) if step.get("gain") else StepGain()
    loss, rows = step["validation_loss"], step["rows"]
    return [
        Cell(NONE if rows is None else f"{rows:,}"),
        Cell(f"{step['steps']:,}"),
        Cell(NONE) if loss is None else Cell(f"{loss:.4f}", "", "curve_eval_loss", validated),
        _change(gain, "exact_match"),
        _change(gain, "loss"),
    ]


def _change(gain: StepGain, name: str) -> Cell:
    """Return a score before and after, and the difference with its interval."""
    found = gain.figures.get(name)
    if not found:
        return Cell(NONE)
    before, after = gain.scores["before"][name], gain.scores["after"][name]
    low, high = found["ci95"] or (float("nan"), float("nan"))
    if name == "exact_match":
        ends = f"{100 * low:+.1f} to {100 * high:+.1f}"
        change = f"{100 * found['difference']:+.1f} points, {ends}"
        return Cell(f"{percent(before)} → {percent(after)} ({change})", "", name, int(found["n"]))
    change = f"{found['difference']:+.3f}, {low:+.3f} to {high:+.3f}"
    return Cell(f"{before:.3f} → {after:.3f} ({change})", "", "step_loss", int(found["n"]))
