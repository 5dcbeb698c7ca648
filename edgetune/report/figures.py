"""Metrics of any task as cells: a ratio in percent, anything else with its unit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgetune.report.format import NONE, percent, significant
from edgetune.report.tables import Cell

Definitions = Mapping[str, Mapping[str, str]]
MINUS = "\u2212"
LOWER_IS_BETTER = re.compile(
    r"(^|_)(perplexity|kl|errors?|wer|cer|ter|ece|brier|loss|nll|bits|edits?|calibration)(_|$)"
)


#: Without a unit, and yet no fraction: BLEU and chrF go to 100, a function's scores anywhere.
OTHER_SCALES = re.compile(r"perplexity|^(bleu|chrf|custom_score)$")


def is_ratio(metric: str, definitions: Definitions) -> bool:
    """Return whether a metric is a fraction, which people read in percent."""
    return not definitions.get(metric, {}).get("unit") and not OTHER_SCALES.search(metric)


def higher_is_better(metric: str) -> bool:
    """Return whether more of a metric is better; errors and divergences are better where small."""
    return LOWER_IS_BETTER.search(metric) is None


def write_value(value: float | None, metric: str, definitions: Definitions) -> str:
    """Return a metric's value: ``93.7 %`` of a ratio, else three digits and the unit."""
    if value is None or not math.isfinite(value):
        return NONE
    if is_ratio(metric, definitions):
        return percent(value)
    unit = definitions.get(metric, {}).get("unit", "")
    return f"{significant(value)} {unit}".strip()


def write_interval(
    ends: Sequence[float] | None, metric: str, definitions: Definitions, sign: str = ""
) -> str:
    """Return an interval: ``93.0–96.6``, or ``-2.1 to +0.4`` with signs."""
    if not ends or not all(map(math.isfinite, ends)):
        return ""
    ratio = is_ratio(metric, definitions)
    texts = [f"{100 * end:{sign}.1f}" if ratio else f"{end:{sign}.3g}" for end in ends]
    return (" to " if sign else "–").join(texts).replace("-", MINUS)


def write_difference(value: float | None, metric: str, definitions: Definitions) -> str:
    """Return a difference: ``+1.3 points`` of a ratio, else three digits and the unit.

    What rounds to zero has no sign.
    """
    if value is None or not math.isfinite(value):
        return NONE
    if is_ratio(metric, definitions):
        points = round(100 * value, 1) or 0.0  # not -0.0
        return f"{points:{'+' if points else ''}.1f} points".replace("-", MINUS)
    unit = definitions.get(metric, {}).get("unit", "")
    return f"{value:+.3g} {unit}".strip().replace("-", MINUS)


def score_cell(found: Mapping[str, Any] | None, definitions: Definitions) -> Cell:
    """Return a measurement as a cell, with its interval below."""
    if found is None:
        return Cell(NONE)
    metric, n = str(found["name"]), int(found["n"])
    text = write_value(found["value"], metric, definitions)
    return Cell(text, write_interval(found.get("ci95"), metric, definitions), metric, n)


def difference_cell(found: Mapping[str, Any], definitions: Definitions) -> Cell:
    """Return a paired difference as a cell, with its interval below."""
    metric = str(found["metric"])
    text = write_difference(found["difference"], metric, definitions)
    below = write_interval(found.get("ci95"), metric, definitions, "+")
    return Cell(text, below, "difference", int(found["n"]))
