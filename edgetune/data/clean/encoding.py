"""Encoding: mojibake, control characters and split accents, repaired by ftfy."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import ftfy

from edgetune.data.clean.texts import list_texts, map_texts
from edgetune.data.rows import Row
from edgetune.recipe import CleanSection

# Quotes, ligatures, full-width letters, entities, line breaks and colours of a terminal are the
# writer's own.
_CONFIG = ftfy.TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    remove_control_chars=False,
    normalization=None,
    explain=False,
)
# Not tab, line feed, carriage return, nor escape, which begins a colour.
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f\ufeff]")
_PLAIN = bytes([9, 10, 13, 27, *range(32, 127)])
# A letter with combining marks, or conjoining jamo. Only these are composed: NFC over a whole text
# would also replace Japanese and Korean compatibility ideographs, which are spellings of names.
_SPLIT = re.compile("\\w[\u0300-\u036f\u3099\u309a]+|[\u1100-\u11ff]{2,}")


def fix_encoding(
    rows: Sequence[Row], section: CleanSection
) -> list[tuple[Row | None, tuple[str, ...]]]:
    """Repair texts that were decoded with the wrong encoding, and drop control characters."""
    outcomes: list[tuple[Row | None, tuple[str, ...]]] = []
    for row in rows:
        fixed = row if all(map(_is_plain, list_texts(row))) else map_texts(row, fix_text)
        outcomes.append((fixed, () if fixed is row else ("wrong encoding",)))
    return outcomes


def _is_plain(text: str) -> bool:
    """Whether a text, or one in JSON, which escapes control characters, can be in order only."""
    return text.isascii() and not text.encode().translate(None, _PLAIN) and "\\u00" not in text


def fix_text(text: str) -> str:
    """Return a text with mojibake decoded again, control characters dropped, accents composed.

    Source: ftfy's heuristic, which decodes again only what no writer is likely to have meant.
    """
    fixed = text if text.isascii() else ftfy.fix_text(text, _CONFIG)
    fixed = _CONTROL.sub("", fixed)
    if not fixed.isascii():
        fixed = _SPLIT.sub(lambda match: unicodedata.normalize("NFC", match.group()), fixed)
    return fixed
