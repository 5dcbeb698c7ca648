"""Languages of rows, by py3langid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from edgetune.data.clean.texts import list_contents
from edgetune.data.rows import Row
from edgetune.recipe import CleanSection

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

#: Letters below which a guess is worth little; such rows pass.
FEWEST_LETTERS = 40
#: Characters read of a row: more changes no answer.
MOST_CHARACTERS = 1000
#: Probability from which a row counts as being in a language that is not wanted.
CONFIDENT = 0.9
# Code and links are in no language.
_NO_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_LETTERS = re.compile(r"[^\W\d_]+")


def check_languages(
    rows: Sequence[Row], section: CleanSection
) -> list[tuple[Row | None, tuple[str, ...]]]:
    """Drop rows whose prose is, with confidence, in none of the wanted languages."""
    wanted = set(section.languages)
    if not wanted:
        return [(row, ()) for row in rows]
    outcomes: list[tuple[Row | None, tuple[str, ...]]] = []
    for row in rows:
        language = find_language("\n".join(list_contents(row)))
        if language is None or language in wanted:
            outcomes.append((row, ()))
        else:
            outcomes.append((None, (f"language {language}",)))
    return outcomes


def find_language(text: str) -> str | None:
    """Return the language (ISO 639-1) of a text's prose; ``None`` where it is short or unclear."""
    prose = " ".join(_NO_PROSE.sub(" ", text[: 4 * MOST_CHARACTERS]).split())[:MOST_CHARACTERS]
    letters = "".join(_LETTERS.findall(prose))
    # A letter of UTF-8's three-byte scripts says about as much as two.
    if len(letters.encode()) < FEWEST_LETTERS:
        return None
    language, probability = _identifier().classify(prose)
    if probability < CONFIDENT or language == "zxx":  # no language
        return None
    return str(language)


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
