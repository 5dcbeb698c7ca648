"""What the report says of rows with another person in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from edgetune.artifact import Artifact
from edgetune.facts import (
    BenchFacts,
    ClassifiedFigure,
    ClassifierFacts,
    GroupFacts,
    GroupFigure,
    from_json,
    to_json,
)
from edgetune.measure.definitions import define_classified, name_classified
from edgetune.report.format import NONE
from edgetune.report.tables import Cell

FAIRNESS_TITLES = (
    "Model", "Group", "Rows", "Answers changed", "Changed within a group", "Loss of the answer",
    "Length", "KL beyond a group's own", "Beyond chance",
)  # fmt: skip
BALANCE_TITLES = ("Group", "Attribute", "Rows of train", "By answer")
CLASSIFIED_TITLES = (
    "Model", "Label", "Rows", "Mean probability", "Above 0.5", "Mean, to base",
    "Above 0.5, to base", "p, corrected",
)  # fmt: skip
GROUP_CLASSIFIED_TITLES = ("Model", "Group", "Label", "Rows", "Probability", "Beyond chance")
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
            found = ", ".join(_SHORT[name] for name in one.found if name in _SHORT)
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
                    ", ".join(filter(None, (found, _classified_found(one))))
                    or ("no" if one.tested else "not tested"),
                ]
            )
    return rows


def classified_rows(report: Mapping[str, Any]) -> list[list[str | Cell]]:
    """Return the cells of each classifier and model: texts, and numbers of the test rows."""
    rows: list[list[str | Cell]] = []
    for entry in (report.get("fairness") or {}).get("classifiers") or ():
        facts = from_json(ClassifierFacts, entry)
        for one in facts.models:
            mean, rate = one.probability, one.rate
            tested = [p for p in (mean.p_adjusted, rate.p_adjusted) if p is not None]
            p_value = (
                Cell(f"{min(tested):.2g}", "", "classified_p", mean.n) if tested else Cell(NONE)
            )
            rows.append(
                [
                    one.name,
                    f"{facts.name}: {facts.label} ({facts.model})",
                    f"{mean.n:,}",
                    Cell(f"{mean.value:.3f}", _between(mean.ci95, ".3f"), mean.metric, mean.n),
                    Cell(f"{100 * rate.value:.1f} %", _percents(rate.ci95), rate.metric, rate.n),
                    _difference(mean, "+.3f"),
                    _difference(rate, "+.1f"),
                    p_value,
                ]
            )
    return rows


def classified_group_rows(
    report: Mapping[str, Any], changes: bool = False
) -> list[list[str | Cell]]:
    """Return the cells of each model, group and classifier.

    Args:
        report: with the key ``fairness``.
        changes: what files changed against the model they were made of.
    """
    rows: list[list[str | Cell]] = []
    found = report.get("fairness") or {}
    labels = {name_classified(one["name"]): one for one in found.get("classifiers") or ()}
    for model in found.get("models", []):
        for group in model.get("changes" if changes else "groups") or ():
            one = from_json(GroupFacts, group)
            for metric, figure in (one.classified or {}).items():
                known = labels[metric]
                tested = "no" if figure.p_value is not None else "not tested"
                rows.append(
                    [
                        model["name"],
                        f"{one.group} against {one.against}",
                        f"{known['name']}: {known['label']}",
                        f"{figure.n:,}",
                        Cell(f"{figure.value:+.3f}", _between(figure.ci95, "+.3f"),
                             "fairness_classified", figure.n),
                        "yes" if metric in one.found else tested,
                    ]
                )  # fmt: skip
    return rows


def define_classifiers(report_part: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
    """Return the definitions of the classifiers' metrics, as JSON values."""
    found = {}
    for one in (report_part or {}).get("classifiers") or ():
        for name, definition in define_classified(one["name"], one["model"], one["label"]).items():
            found[name] = asdict(definition)
    return found


def _classified_found(one: GroupFacts) -> str:
    names = [name for name in one.found if name not in _SHORT]
    return ", ".join(
        name.removeprefix("classifier_").removesuffix("_probability") for name in names
    )


def _difference(figure: ClassifiedFigure, form: str) -> Cell:
    """Return a difference to the base; of a rate in points."""
    if figure.difference is None:
        return Cell(NONE)
    scale = 100 if form.endswith("1f") else 1
    unit = " points" if scale == 100 else ""
    ends = [scale * end for end in figure.difference_ci95 or ()] or None
    text = f"{scale * figure.difference:{form}}{unit}"
    return Cell(text, _between(ends, form), "classified_difference", figure.n)


def _between(ends: list[float] | None, form: str) -> str:
    return f"{ends[0]:{form}} to {ends[1]:{form}}" if ends else ""


def _percents(ends: list[float] | None) -> str:
    return _between([100 * end for end in ends], ".1f") if ends else ""


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
