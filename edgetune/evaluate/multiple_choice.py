"""Answers that are the letter of a choice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from edgetune.evaluate import Graded, Line, Questions, Table, score_hits
from edgetune.measure.definitions import Definition

_ALONE = re.compile(r"\W*([A-Za-z])\W*", re.ASCII)
_FIRST = re.compile(r"\s*[(\[*\"']*([A-Z])\s*[)\].:,*](?!\w)")  # B) text, (B) text, B. text
_SAID = re.compile(r"(?:answer|choice|option)\b\W*(?:is\b\W*|:\W*)?([A-Z])\b(?!')", re.IGNORECASE)

DEFINITIONS = {
    "choice_accuracy": Definition(
        "Right choice", "",
        "fraction of rows whose answer chooses the row's letter: alone, before its choice, or "
        "behind 'answer'; the interval is Wilson's",
    ),
    "choice_rate": Definition(
        "Chooses a letter", "",
        "fraction of answers in which a letter can be read as the choice; the interval is "
        "Wilson's",
    ),
}  # fmt: skip


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade choices.

    Raises:
        ValueError: not as many answers as questions, or none.
    """
    wanted = [find_choice(text) for text in questions.expected]
    found = [find_choice(text) for text in answers]
    right = [one == other and bool(one) for one, other in zip(found, wanted, strict=True)]
    scores = [
        score_hits("choice_accuracy", right),
        score_hits("choice_rate", [bool(one) for one in found]),
    ]
    return Graded(scores, right, [_per_letter(wanted, found, right)])


def find_choice(text: str) -> str:
    """Return the letter that a text chooses, as a capital; empty where none can be read."""
    text = text.strip()
    for pattern in (_ALONE.fullmatch, _FIRST.match):
        match = pattern(text)
        if match:
            return match[1].upper()
    said = _SAID.findall(text)
    return said[-1].upper() if said else ""


def _per_letter(wanted: Sequence[str], found: Sequence[str], right: Sequence[bool]) -> Table:
    rows, answers = Counter(wanted), Counter(found)
    hits = Counter(one for one, good in zip(wanted, right, strict=True) if good)
    lines: list[Line] = []
    for name in sorted({*rows, *answers}, key=lambda name: (not name, name)):
        share = hits[name] / rows[name] if rows[name] else None
        lines.append([name or "(none)", rows[name], answers[name], share])
    columns = ["Letter", "Rows", "Answers", "Right"]
    return Table("per_letter", "Per letter: a letter answered too often is a bias", columns, lines)
