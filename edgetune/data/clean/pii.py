"""Personal data and secrets of known form: found in all texts of a row, replaced alike."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from edgetune.data.clean.names import find_names
from edgetune.data.clean.pii_kinds import KINDS
from edgetune.data.clean.spans import Span, scan
from edgetune.data.clean.texts import list_texts, map_texts
from edgetune.data.rows import Row
from edgetune.recipe import CleanSection

#: Characters that are searched at a time.
BATCH = 1 << 16
#: Between the texts that are searched together: in no value, and no value is across it.
_BORDER = "\0"

#: The kind of people's names.
NAME = "name"

Found = list[tuple[str, Span]]


def replace_pii(
    rows: Sequence[Row], section: CleanSection
) -> list[tuple[Row | None, tuple[str, ...]]]:
    """Write a placeholder, as ``<EMAIL_1>``, for each value; equal values of a row get the same."""
    # JSON escapes what no value contains, so that it may be searched as it is.
    texts = ["\n".join(list_texts(row)) for row in rows]
    people = [set[str]() for _ in rows]
    if section.names_model is not None:
        people = find_names(texts, section.names_model)
    outcomes: list[tuple[Row | None, tuple[str, ...]]] = []
    for row, text, found, names in zip(rows, texts, find_all(texts), people, strict=True):
        if not found and not names:
            outcomes.append((row, ()))
        elif section.pii == "warn":
            outcomes.append(
                (row, _order({kind for kind, _ in found} | ({NAME} if names else set())))
            )
        else:
            placeholders = Placeholders.of(text, names)
            changed = map_texts(row, placeholders.replace)
            kinds = _order(placeholders.counts) if changed is not row else ()
            outcomes.append((changed, kinds))
    return outcomes


def _order(kinds: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in (*(kind.name for kind in KINDS), NAME) if name in kinds)


def find_spans(text: str) -> Found:
    """Return the values of a text, each with its kind, in their order and none inside another.

    Where two overlap, the kind that comes first in :data:`KINDS` has it.
    """
    scanned = scan(text)
    found: Found = []
    for kind in KINDS:
        found += [(kind.name, span) for span in kind.find(scanned) if scanned.take(span)]
    found.sort(key=_start)
    return found


def _start(found: tuple[str, Span]) -> int:
    return found[1].start


def find_all(texts: Sequence[str]) -> list[Found]:
    """Return the values of each text, like :func:`find_spans`, of many texts in one pass."""
    results: list[Found] = [[] for _ in texts]
    first = 0
    while first < len(texts):
        starts: list[int] = []
        place = 0
        for text in islice(texts, first, None):
            if starts and place + len(text) > BATCH:
                break
            starts.append(place)
            place += len(text) + 1
        joined = _BORDER.join(
            text.replace(_BORDER, " ") for text in texts[first : first + len(starts)]
        )
        for kind, (start, end, value) in find_spans(joined):
            number = bisect_right(starts, start) - 1
            offset = starts[number]
            results[first + number].append((kind, Span(start - offset, end - offset, value)))
        first += len(starts)
    return results


def _add_names(found: Found, names: Iterable[re.Match[str]]) -> Found:
    """Add the names that are in no other value, such as an address."""
    spans = [Span(*name.span(), name.group()) for name in names]
    free = [
        (NAME, span)
        for span in spans
        if all(span.end <= other.start or other.end <= span.start for _, other in found)
    ]
    return sorted([*found, *free], key=_start)


@dataclass(slots=True)
class Placeholders:
    """The placeholders of a row.

    Attributes:
        taken: placeholders that the row had before.
        given: kind and value -> placeholder.
        counts: kind -> the last number given.
        names: finds the names of people that are known of the row; ``None`` if there are none.
    """

    taken: set[str] = field(default_factory=set)
    given: dict[tuple[str, str], str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    names: re.Pattern[str] | None = None

    @classmethod
    def of(cls, text: str, names: Collection[str] = ()) -> Placeholders:
        """Return the placeholders of a row with this text and these names, none given yet."""
        known = sorted(names, key=lambda name: (-len(name), name))  # a whole name before its parts
        pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, known))})\b") if known else None
        return cls(set(re.findall(r"<[A-Z]+_\d+>", text)), names=pattern)

    def replace(self, text: str) -> str:
        """Return a text with its values replaced."""
        parts, end = [], 0
        found = find_spans(text)
        if self.names is not None:
            found = _add_names(found, self.names.finditer(text))
        for kind, span in found:
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
