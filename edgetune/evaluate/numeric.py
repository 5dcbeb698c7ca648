"""Answers that are a number, alone or at the end of a derivation.

Options: ``tolerance`` and ``relative_tolerance`` (how far a right number may be off), and
``decimal_comma`` (1.234,5 is one thousand two hundred and thirty-four and a half).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from edgetune.evaluate import Graded, Questions, score_hits
from edgetune.measure.definitions import Definition

_NUMBER = re.compile(r"(?<![\w.,])[-+]?(?:\d[\d.,]*|[.,]\d+)(?:[eE][-+]?\d+)?")
_FINAL = re.compile(r"####\s*(.*)")  # GSM8K's line with the answer

DEFINITIONS = {
    "numeric_accuracy": Definition(
        "Right number", "",
        "fraction of rows whose answer has the row's number: the one behind '####', else the last "
        "in the text; separators of thousands and signs of currency aside; within "
        "bench.task_options.tolerance or relative_tolerance where they are given; the interval is "
        "Wilson's",
    ),
    "number_rate": Definition(
        "Has a number", "", "fraction of answers that have a number; the interval is Wilson's"
    ),
}  # fmt: skip


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade numbers.

    Raises:
        ValueError: not as many answers as questions, or none.
    """
    options = questions.options
    comma = bool(options.get("decimal_comma", False))
    off = float(options.get("tolerance") or 0), float(options.get("relative_tolerance") or 0)
    found = [find_number(text, comma) for text in answers]
    wanted = [find_number(text, comma) for text in questions.expected]
    right = [_is_close(*pair, *off) for pair in zip(found, wanted, strict=True)]
    numbers = [one is not None for one in found]
    return Graded(
        [score_hits("numeric_accuracy", right), score_hits("number_rate", numbers)], right
    )


def find_number(text: str, decimal_comma: bool = False) -> Decimal | None:
    """Return the number behind ``####``, else the last of a text; ``None`` of none.

    Decimal, so that 0.1 + 0.2 of a text is not told from 0.3 by the machine's arithmetic.
    """
    text = text.replace("\u2212", "-")
    final = _FINAL.findall(text)
    if final:
        text = final[-1]
    found = _NUMBER.findall(re.sub(r"(?<=[-+])\s*[$€£¥]|[$€£¥]", "", text))
    for written in reversed(found):
        point, separator = (",", ".") if decimal_comma else (".", ",")
        plain = written.rstrip(".,").replace(separator, "").replace(point, ".")
        try:
            return Decimal(plain)
        except InvalidOperation:  # a date or a version: 1.2.3
            continue
    return None


def _is_close(
    found: Decimal | None, wanted: Decimal | None, absolute: float, relative: float
) -> bool:
    if found is None or wanted is None:
        return False
    if found == wanted:
        return True
    return math.isclose(float(found), float(wanted), rel_tol=relative, abs_tol=absolute)
