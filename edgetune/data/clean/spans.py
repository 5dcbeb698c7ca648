"""What finders of personal data read, and what they yield."""

from __future__ import annotations

import re
import string
from typing import NamedTuple


class Span(NamedTuple):
    """Where a value is in a text, and the value in one spelling, by which equal ones are known."""

    start: int
    end: int
    value: str


class Scan(NamedTuple):
    """A text, and what is known of it after one pass.

    Attributes:
        text: the text.
        classes: the class of each character: ``0`` a digit, ``a`` and ``A`` letters, and so on.
        runs: where seven digits or more follow one another with few separators between: start,
            end, and how many they are.
        taken: 1 for each character of a value that was found.
    """

    text: str
    classes: bytes
    runs: list[tuple[int, int, int]]
    taken: bytearray

    def take(self, span: Span) -> bool:
        """Mark a value as found; return whether no other was found at its place."""
        if self.taken.find(1, span.start, span.end) >= 0:
            return False
        self.taken[span.start : span.end] = b"\1" * (span.end - span.start)
        return True


def _make_classes() -> bytes:
    """Return the class of each character of Latin-1, others being ``#``."""
    table = bytearray(b"#" * 256)
    for characters, kind in (
        (string.digits, "0"), (string.ascii_lowercase, "a"), (string.ascii_uppercase, "A"),
        (" \u00a0", " "), (")/", "/"), ("=:", ":"), ("._-@+(", ""),
    ):  # fmt: skip
        for character in characters:
            table[ord(character)] = ord(kind or character)
    return bytes(table)


_CLASSES = _make_classes()
# Digits and separators, which are found fast, and among them runs with few separators in a row.
_NUMBERS = re.compile(rb"0[0 (/.-]{6,}")
_RUN = re.compile(rb"0(?:(?:[ (/-]{1,3}|\.)?0){6,}")


def scan(text: str) -> Scan:
    """Reduce a text to the classes of its characters, and find its runs of digits."""
    classes = text.encode("latin-1", "replace").translate(_CLASSES)
    runs = []
    for numbers in _NUMBERS.finditer(classes):
        if numbers.group().count(b"0") > 6:
            for run in _RUN.finditer(classes, *numbers.span()):
                runs.append((*run.span(), run.group().count(b"0")))
    return Scan(text, classes, runs, bytearray(len(text)))
