"""Personal data and secrets of known form: found in all texts of a row, replaced alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgetune.data.clean.pii_kinds import KINDS
from edgetune.data.clean.spans import Span, scan
from edgetune.data.clean.texts import list_texts, map_texts
from edgetune.data.rows import Row
from edgetune.recipe import CleanSection


def replace_pii(
    rows: Sequence[Row], section: CleanSection
) -> list[tuple[Row | None, tuple[str, ...]]]:
    """Write a placeholder, as ``<EMAIL_1>``, for each value; equal values of a row get the same."""
    outcomes: list[tuple[Row | None, tuple[str, ...]]] = []
    for row in rows:
        # JSON escapes what no value contains, so that it may be searched as it is.
        text = "\n".join(list_texts(row))
        if not find_spans(text):
            outcomes.append((row, ()))
            continue
        names = Placeholders.of(text)
        changed = map_texts(row, names.replace)
        kinds = tuple(kind.name for kind in KINDS if kind.name in names.counts)
        outcomes.append((changed, kinds if changed is not row else ()))
    return outcomes


def find_spans(text: str) -> list[tuple[str, Span]]:
    """Return the values of a text, each with its kind, in their order and none inside another.

    Where two overlap, the kind that comes first in :data:`KINDS` has it.
    """
    found: list[tuple[str, Span]] = []
    scanned = scan(text)
    for kind in KINDS:
        for span in kind.find(scanned):
            if all(span.end <= other.start or other.end <= span.start for _, other in found):
                found.append((kind.name, span))
    return sorted(found, key=lambda one: one[1].start) if len(found) > 1 else found


@dataclass(slots=True)
class Placeholders:
    """The placeholders of a row.

    Attributes:
        taken: placeholders that the row had before.
        given: kind and value -> placeholder.
        counts: kind -> the last number given.
    """

    taken: set[str] = field(default_factory=set)
    given: dict[tuple[str, str], str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Placeholders:
        """Return the placeholders of a row with this text, none given yet."""
        return cls(set(re.findall(r"<[A-Z]+_\d+>", text)))

    def replace(self, text: str) -> str:
        """Return a text with its values replaced."""
        parts, end = [], 0
        for kind, span in find_spans(text):
            parts += [text[end : span.start], self._name(kind, span.value)]
            end = span.end
        return "".join([*parts, text[end:]]) if end else text

    def _name(self, kind: str, value: str) -> str:
        key = (kind, value)
        while key not in self.given:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            name = f"<{kind.upper()}_{self.counts[kind]}>"
            if name not in self.taken:
                self.given[key] = name
        return self.given[key]
