"""Whether a file keeps the score of what it was made of: the one rule of headline and page.

A file keeps it where it loses no more than 2 points of a fraction, or 3 % of any other metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgetune.report.figures import (
    Definitions,
    higher_is_better,
    is_ratio,
    write_difference,
)
from edgetune.report.format import percent

POINTS = 0.02  # of a fraction: a smaller loss is none that a user would notice
PART = 0.03  # of the reference's value, where a metric is no fraction
LEAST = 0.05  # a fraction below it is too low for keeping it to mean anything
ROUNDING = 1e-9  # 0.963 - 0.943 is a little more than 0.02


@dataclass(frozen=True)
class Kept:
    """What became of a score.

    Attributes:
        pair: ``metric, difference`` (file less reference), ``ci95`` and ``n``.
        outcome: ``kept`` or ``lost`` for certain, by the 95 % interval, else ``open``.
        within: whether no more than the tolerated loss was lost on these very rows.
        tolerated: that loss, in words.
    """

    pair: Mapping[str, Any]
    outcome: str
    within: bool
    tolerated: str

    @property
    def gain(self) -> float:
        """The difference, positive where the file is better."""
        sign = 1 if higher_is_better(self.pair["metric"]) else -1
        return sign * float(self.pair["difference"])


def find_kept(
    pair: Mapping[str, Any], reference: Mapping[str, Any], definitions: Definitions
) -> Kept:
    """Return what became of the score of ``reference``, a measurement, in a file.

    Args:
        pair: as :func:`compare_models` returns it.
        reference: the measurement that the file is compared with.
        definitions: by metric.
    """
    metric = str(pair["metric"])
    ratio = is_ratio(metric, definitions)
    tolerated = (POINTS if ratio else PART * abs(float(reference["value"] or 0.0))) + ROUNDING
    sign = 1 if higher_is_better(metric) else -1
    low, high = sorted(sign * end for end in pair.get("ci95") or (float("-inf"), float("inf")))
    outcome = "kept" if low >= -tolerated else "lost" if high < 0 else "open"
    within = sign * float(pair["difference"]) >= -tolerated
    words = f"{100 * POINTS:.0f} points" if ratio else percent(PART, 0)
    return Kept(pair, outcome, within, words)


def find_lowness(reference: Mapping[str, Any], commonest: float, definitions: Definitions) -> str:
    """Return why keeping a score would mean nothing; empty where it means something.

    A fraction must be 5 % or more, else it is ``low``, and for certain more than the commonest
    right answer alone would get, else it is ``chance``. The interval of any other metric must
    leave out 0, else it is ``low``.

    Args:
        reference: the measurement that files are compared with.
        commonest: fraction of rows whose right answer is the commonest one; 0 if not known.
        definitions: by metric.
    """
    metric, value = str(reference["name"]), reference["value"]
    if value is None or not higher_is_better(metric):
        return ""
    low, high = reference.get("ci95") or (value, value)
    if not is_ratio(metric, definitions):
        return "" if low * high > 0 else "low"
    if value < LEAST or low <= 0:
        return "low"
    return "chance" if low <= commonest else ""


def write_loss(kept: Kept, definitions: Definitions) -> str:
    """Return how much was lost on these rows, without a sign: ``4.6 points``."""
    metric = str(kept.pair["metric"])
    return write_difference(abs(float(kept.pair["difference"])), metric, definitions).lstrip("+")


def name_metric(metric: str, definitions: Definitions) -> str:
    """Return a metric's title as it is written within a sentence."""
    title = str(definitions.get(metric, {}).get("title") or metric.replace("_", " "))
    return title if title.isupper() else title[:1].lower() + title[1:]
