"""Writing systems of texts: by them words are told apart, and translations recognised."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(f"[{_CJK}]|(?:(?![{_CJK}])[^\\W_])+")
_CJK_LETTER = re.compile(f"[{_CJK}]")
LETTERS = 2000  # that are looked at


def words(text: str) -> list[str]:
    """Return a text's words in lower case; a Chinese, Japanese or Korean sign is one by itself.

    Of ASCII text they are those of rouge-score's own tokenizer, which drops every other letter.
    """
    return _WORD.findall(text.lower())


def is_cjk(texts: Iterable[str]) -> bool:
    """Return whether most letters are Chinese, Japanese or Korean."""
    letters = [sign for text in texts for sign in text if sign.isalpha()]
    signs = sum(bool(_CJK_LETTER.match(sign)) for sign in letters)
    return 2 * signs > len(letters)


def main_script(texts: Sequence[str]) -> str:
    """Return the writing system of most letters (``LATIN``, ``CYRILLIC``, …); empty of none."""
    found: Counter[str] = Counter()
    for sign in "".join(texts)[:LETTERS]:
        if sign.isalpha():
            found[unicodedata.name(sign, "?").split()[0]] += 1
    return found.most_common(1)[0][0] if found else ""
