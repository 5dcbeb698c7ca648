"""What the report says of rows with another person in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetune.artifact import Artifact
from edgetune.facts import BenchFacts, GroupFacts, GroupFigure, from_json, to_json
from edgetune.report.format import NONE

FAIRNESS_TITLES = (
    "Model", "Group", "Rows", "Answers changed", "Changed within a group", "Loss of the answer",
    "Length", "KL beyond a group's own", "Beyond chance",
)  # fmt: skip
BALANCE_TITLES = ("Group", "Attribute", "Rows of train", "By answer")
_SHORT = {"label_changes": "answers", "score": "loss", "length": "length", "kl": "KL"}
_LABELS = 6  # answers that the table of balance shows


def find_fairness(bench: Artifact | None) -> dict[str, Any] | None:
    """Return the facts as JSON values; ``None`` if people were not compared."""
    found = from_json(BenchFacts, bench.facts).fairness if bench and bench.facts else None
    return to_json(found) if found else None


def fairness_rows(report: Mapping[str, Any], changes: bool = False) -> list[list[str]]:
    """Return the cells of each model and group.

    Args:
        report: with the key ``fairness``.
        changes: what files changed against the model they were made of, not the figures themselves.
    """
    rows = []
    for model in (report.get("fairness") or {}).get("models", []):
        key = "changes" if changes else "groups"
        for group in model.get(key) or ():
            one = from_json(GroupFacts, group)
            found = ", ".join(_SHORT[name] for name in one.found)
            rows.append(
                [
                    model["name"],
                    f"{one.group} against {one.against}",
                    f"{one.n:,}",
                    _points(one.label_changes, signed=changes),
                    _neutral(one.label_changes),
                    _plain(one.score),
                    _plain(one.length),
                    _excess(one.kl),
                    found or ("no" if one.tested else "not tested"),
                ]
            )
    return rows


def balance_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of each group's rows of train, groups without any left out."""
    rows = []
    for one in (report.get("fairness") or {}).get("balance", []):
        if not one["rows"]:
            continue
        labels = [f"{label} {count:,}" for label, count in list(one["labels"].items())[:_LABELS]]
        more = len(one["labels"]) - len(labels)
        text = ", ".join(labels) + (f" and {more} more" if more > 0 else "")
        share = 100 * one["rows"] / one["of"]
        rows.append(
            [one["group"], one["attribute"], f"{one['rows']:,} ({share:.1f} %)", text or NONE]
        )
    return rows


def _points(figure: GroupFigure | None, signed: bool) -> str:
    if figure is None:
        return NONE
    sign = "+" if signed else ""
    text = f"{100 * figure.value:{sign}.1f} %"
    if figure.ci95:
        text += f" ({100 * figure.ci95[0]:{sign}.1f} to {100 * figure.ci95[1]:{sign}.1f})"
    return text


def _neutral(figure: GroupFigure | None) -> str:
    return NONE if figure is None or figure.neutral is None else f"{100 * figure.neutral:.1f} %"


def _plain(figure: GroupFigure | None) -> str:
    return NONE if figure is None else _signed(figure.value, figure.ci95)


def _excess(figure: GroupFigure | None) -> str:
    if figure is None or figure.excess is None:
        return NONE
    return _signed(figure.excess, figure.excess_ci95)


def _signed(value: float, ends: list[float] | None) -> str:
    text = f"{value:+.3g}"
    return text + (f" ({ends[0]:+.3g} to {ends[1]:+.3g})" if ends else "")
