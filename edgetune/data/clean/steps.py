"""Row-wise cleaning: a table of steps, each of which reports, changes or drops rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from edgetune.data.clean.bounds import check_lengths, check_repetition
from edgetune.data.clean.encoding import fix_encoding
from edgetune.data.clean.language import check_languages
from edgetune.data.clean.pii import replace_pii
from edgetune.data.rows import Row
from edgetune.recipe import CleanSection

Action = Literal["changed", "dropped", "reported"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step found in a row; it never quotes the row.

    Attributes:
        step: name of the step, which is its key in ``data.clean``.
        reason: what was found, one of a few texts for each step, so that rows can be counted by it.
        action: what became of the row.
    """

    step: str
    reason: str
    action: Action


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A row after cleaning: ``None`` if it was dropped, and what was found in it."""

    row: Row | None
    findings: tuple[Finding, ...]


#: A row as a step would have it (``None``: dropped), and the reasons (none: nothing found).
Outcome = tuple[Row | None, tuple[str, ...]]
Step = Callable[[Sequence[Row], CleanSection], list[Outcome]]

#: Key in ``data.clean`` -> step, in the order they run: texts are fixed before they are measured.
ROW_STEPS: dict[str, Step] = {
    "encoding": fix_encoding,
    "length": check_lengths,
    "repetition": check_repetition,
    "language": check_languages,
    "pii": replace_pii,
}


def clean_rows(rows: Sequence[Row], section: CleanSection) -> list[Cleaned]:
    """Run the steps that are not off over rows; one result for each, in their order."""
    kept: list[Row | None] = list(rows)
    findings: list[list[Finding]] = [[] for _ in rows]
    for name, step in ROW_STEPS.items():
        mode = getattr(section, name)
        if mode == "off":
            continue
        places = [place for place, row in enumerate(kept) if row is not None]
        outcomes = step([row for row in kept if row is not None], section)
        for place, (row, reasons) in zip(places, outcomes, strict=True):
            if not reasons:
                continue
            action: Action = "reported"
            if mode == "fix":
                kept[place] = row
                action = "dropped" if row is None else "changed"
            findings[place] += [Finding(name, reason, action) for reason in reasons]
    return [Cleaned(row, tuple(found)) for row, found in zip(kept, findings, strict=True)]
